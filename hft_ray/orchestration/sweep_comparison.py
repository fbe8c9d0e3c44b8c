"""Comparison of sweeps in tracking, and whether they can be compared."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from hft_ray.config import Config, ConfigError, Problem
from hft_ray.orchestration.fronts import config_of, front_of
from hft_ray.pareto import Comparison, Front, compare
from hft_ray.tracking import read_sweep

_SCORES_KEPT = {"every", "batch_size"}
"""Settings of ``evaluation`` that do not change a score."""


def compare_from_tracking(uri: str, experiment: str, names: Sequence[str]) -> Comparison:
    """Compare the sweeps of these names.

    Sweeps can be compared when they have the same objectives and the same evaluations. Another base
    model, other training data and another reference point are allowed and listed in the notes.

    Raises:
        ConfigError: A sweep does not exist, or they cannot be compared; all reasons together.
    """
    if len(names) < 2 or len(set(names)) < len(names):
        problem = "give two or more different sweeps"
        raise ConfigError(Problem("NAME", problem, " ".join(names)))
    configs, fronts = [], []
    for name in names:
        record = read_sweep(uri, experiment, name)
        configs.append(config_of(record))
        fronts.append(front_of(record, configs[-1]))
    problems = incomparable(configs, [front.objectives for front in fronts])
    if problems:
        raise ConfigError(problems, "the comparison")
    return compare(fronts, _notes(configs, fronts))


def incomparable(
    configs: Sequence[Config], objectives: Sequence[Mapping[str, str]]
) -> list[Problem]:
    """Return the differences to the first sweep that forbid a comparison."""
    problems = []
    first = configs[0].name
    for config, judged_by in zip(configs[1:], objectives[1:], strict=True):
        if judged_by != objectives[0]:
            message = f"{config.name} has {_text(judged_by)} and {first} has {_text(objectives[0])}"
            problems.append(Problem("search.objectives", message))
        for part in ("task", "general"):
            here, there = _evaluations(config, part), _evaluations(configs[0], part)
            for name in sorted(here.keys() | there.keys()):
                found = _mismatch(here.get(name), there.get(name), config.name, first)
                if found is not None:
                    problems.append(Problem(f"evaluation.{part}.{name}", found))
    return problems


def _evaluations(config: Config, part: str) -> dict[str, dict[str, Any]]:
    """Return what each evaluation measures, by its name, defaults included."""
    section = config.scored.model_dump(mode="json", exclude=_SCORES_KEPT)
    shared = {key: value for key, value in section.items() if key not in ("task", "general")}
    return {each["name"]: {**shared, **each} for each in section[part]}


def _mismatch(
    here: dict[str, Any] | None, there: dict[str, Any] | None, name: str, first: str
) -> str | None:
    if here is None or there is None:
        return f"only {first if here is None else name} has it; the scores mean different things"
    differing = [key for key in sorted({**here, **there}) if here.get(key) != there.get(key)]
    # Where a suite was expanded from says nothing about what it measures.
    differing = [key for key in differing if key != "suite"]
    if not differing:
        return None
    said = [f"{key} is {here.get(key)!r} and {there.get(key)!r}" for key in differing]
    return f"differs between {name} and {first}: {', '.join(said)}"


def _notes(configs: Sequence[Config], fronts: Sequence[Front]) -> list[str]:
    """Return a sentence for each allowed difference."""
    facts = {
        "base models": [_model(config) for config in configs],
        "training data": [
            ", ".join(
                data.train for data in [*config.training_data.values(), *config.pair_data.values()]
            )
            for config in configs
        ],
        "reference points (the worst of each objective is used)": [
            _text(front.reference_point) for front in fronts
        ],
    }
    return [
        f"different {what}: "
        + "; ".join(f"{f.sweep}: {value}" for f, value in zip(fronts, values, strict=True))
        for what, values in facts.items()
        if len(set(values)) > 1
    ]


def _model(config: Config) -> str:
    revision = config.model.revision
    return config.model.name if revision is None else f"{config.model.name} at {revision}"


def _text(values: object) -> str:
    return json.dumps(values, sort_keys=True)
