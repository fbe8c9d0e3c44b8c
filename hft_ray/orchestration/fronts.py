"""From a sweep's trials to its front: as the search knows them, or as tracking does."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from hft_ray.analysis import Setting
from hft_ray.analysis.settings import text
from hft_ray.config import STDERR, Choices, Config, ConfigError, Problem
from hft_ray.config.keys import FULL_FINE_TUNING, settings, with_settings
from hft_ray.config.load import parse
from hft_ray.config.rules.by_arm import fixed_settings
from hft_ray.config.sections.arms import arm_of
from hft_ray.orchestration.itemwise import item_scores_of, with_answers
from hft_ray.pareto import Front, Point
from hft_ray.pareto.front import FrontBuilder
from hft_ray.tracking import SweepRecord, TrialRecord, names, read_sweep, run_key

if TYPE_CHECKING:  # imports Optuna, which `hft-ray status` does without
    from hft_ray.search import TrialSnapshot

SHOWN = ("task/", "general/", "forgetting/", "retention/", "forecast/")
"""Metrics that a point shows beside its objectives; of a complete trial what it cost too."""
COST = "cost/"


class TrialPoints:
    """Makes the points of a sweep's trials; decides which settings and metrics they show.

    Args:
        config: FILE.
        run_id: Gives the run of ``run_key(trial, variant)``.
    """

    def __init__(
        self, config: Config, run_id: Callable[[str], str | None] = lambda key: None
    ) -> None:
        assert config.search is not None
        self._config, self._search, self._run_id = config, config.search, run_id
        self._metrics = {*self._search.objectives, *(each.metric for each in self._search.bounds)}
        self._keys = _shown_settings(config)
        self._settings: dict[str, dict[str, Any]] = {}

    def resolved(self, trial: str, params: Mapping[str, Any]) -> dict[str, Any]:
        """Return every setting of a trial by its dotted key; those that are shown are kept."""
        found = settings(with_settings(self._config, params))
        self._settings[trial] = {key: found[key] for key in self._keys}
        return found

    def of(self, known: TrialSnapshot) -> list[Point]:
        """Return the points of a trial: the trained model, then its variants by their names."""
        if known.trial not in self._settings:
            self.resolved(known.trial, known.params)
        state = known.result.get("state") or known.state
        variants = sorted(known.result.get("variants") or (), key=lambda each: each["variant"])
        found = [(None, state, known.result)]
        found += [(each["variant"], "complete", each) for each in variants]
        return [
            self._point(
                trial=known.trial,
                variant=variant,
                run_id=self._run_id(run_key(known.trial, variant)),
                state=state,
                step=int(result.get("step") or 0),
                params=self._settings[known.trial],
                metrics=result.get("values") or {},
                configuration=known.configuration if self._search.seeds > 1 else None,
            )
            for variant, state, result in found
        ]

    def tracked(self, trial: TrialRecord) -> Point:
        """Return the point of a trial or variant that tracking knows.

        Its step is the one at which the first objective was measured last.
        """
        metrics = trial.metrics
        objective = next((name for name in self._search.objectives if name in metrics), None)
        return self._point(
            trial=trial.trial,
            variant=trial.variant,
            run_id=trial.run_id,
            state=trial.state,
            step=trial.history(objective)[-1][0] if objective else 0,
            params={key: x for key, x in trial.params.items() if key in self._keys},
            metrics=metrics,
            configuration=trial.tags.get(names.CONFIGURATION),
        )

    def _point(
        self,
        *,
        variant: str | None,
        state: str,
        params: dict[str, Any],
        metrics: Mapping[str, float],
        **known: Any,
    ) -> Point:
        finite = {name: x for name, x in metrics.items() if math.isfinite(x)}
        shown = SHOWN if state != "complete" else (*SHOWN, COST)
        return Point(
            variant=variant,
            state=state,
            params=params,
            arm=arm_of(params.get("arm"), variant, self._search.arms or {}),
            values={k: x for k, x in finite.items() if k in self._metrics or k.startswith(shown)},
            errors={k.removeprefix(STDERR): x for k, x in finite.items() if k.startswith(STDERR)},
            **known,
        )


def front_builder(
    config: Config, base: Mapping[str, float], reference: Mapping[str, float]
) -> FrontBuilder:
    """Return the builder of a sweep's front: FILE's objectives, constraints and preference."""
    search = config.search
    assert search is not None
    rules = (base, reference, search.bounds, search.preference)
    return FrontBuilder(config.name, search.objectives, *rules)


def front_from_tracking(uri: str, experiment: str, name: str) -> Front:
    """Return the front of a sweep, rebuilt from what tracking knows.

    Raises:
        ConfigError: Tracking knows no such sweep, or no front of it.
    """
    record = read_sweep(uri, experiment, name)
    return front_of(record, config_of(record))


def config_of(record: SweepRecord) -> Config:
    """Return the FILE of a sweep that tracking knows."""
    return parse(record.artifact("config.yaml").decode("utf-8"), f"{record.name}: config.yaml")


def front_of(record: SweepRecord, config: Config) -> Front:
    """Return the front of a sweep that tracking knows; raises as :func:`front_from_tracking`."""
    if not record.objectives:
        problem = "the sweep has no front: it ended before the base model was scored"
        raise ConfigError(Problem("NAME", problem, record.name))
    make = TrialPoints(config)
    points = [make.tracked(each) for each in [*record.trials, *record.variants]]
    # By number and name: two trials, or variants, may start in the same moment.
    points.sort(key=lambda point: (len(point.trial), point.trial, point.variant or ""))
    builder = front_builder(config, record.base, record.reference_point)
    for point in with_answers(points, item_scores_of(record)):
        builder.put(point.label, [point])
    return builder.front()


def searched(config: Config) -> list[Setting]:
    """Return the searched settings of FILE as the analysis takes them."""
    assert config.search is not None
    found = []
    for key, entry in config.search.space.items():
        if isinstance(entry, Choices):
            found.append(Setting(key, choices=tuple(dict.fromkeys(map(text, entry.choices)))))
        else:
            found.append(Setting(key, float(entry.low), float(entry.high), entry.log))
    return found


def _shown_settings(config: Config) -> list[str]:
    """Return the settings that a point carries: what trials may differ in."""
    assert config.search is not None
    fixed = [key for assignments in config.search.first for key in assignments]
    for name, arm in (config.search.arms or {}).items():
        fixed += [*arm.space, *fixed_settings(name, arm)]
    return list(dict.fromkeys([*config.search.space, *fixed, *FULL_FINE_TUNING]))
