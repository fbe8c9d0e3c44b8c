"""Whether each searched setting, and each combination of them, is one that FILE would take."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from hft_ray.config.errors import Problem, nearest
from hft_ray.config.keys import searchable_keys, with_settings
from hft_ray.config.renamed import renamed_key
from hft_ray.config.rules.by_arm import by_arm
from hft_ray.config.rules.combinations import combinations
from hft_ray.config.schema import Config
from hft_ray.config.sections.arms import BUILT_IN
from hft_ray.config.sections.space import Choices, SpaceEntry
from hft_ray.config.validation_errors import problems_of


def search_problems(config: Config) -> list[Problem]:
    """Return what is wrong with the searched keys: unknown ones, and values FILE would refuse."""
    if config.search is None:
        return []
    known = searchable_keys()
    problems = _space_problems(config, config.search.space, "search.space")
    for index, assignments in enumerate(config.search.first):
        problems += _given_problems(config, assignments, f"search.first.{index}", known)
    for name, arm in (config.search.arms or {}).items():
        path = f"search.arms.{name}"
        problems += _given_problems(config, arm.set, f"{path}.set", known)
        problems += _assignment_problems(config, BUILT_IN.get(name, {}), path)
        problems += _space_problems(config, arm.space, f"{path}.space")
    return problems or _combination_problems(config)


def _given_problems(
    config: Config, assignments: Mapping[str, Any], path: str, known: list[str]
) -> list[Problem]:
    """Return what is wrong with settings that are given together."""
    unknown = [key for key in assignments if key not in known]
    if not unknown:
        return _assignment_problems(config, assignments, path)
    return [Problem(f"{path}.{key}", _unknown(key, known, "a trial can have")) for key in unknown]


def _unknown(key: str, known: list[str], wanted: str) -> str:
    return renamed_key(key) or f"is not a setting that {wanted}{_instead(key, known)}"


def _instead(key: str, known: list[str]) -> str:
    """Return what to do about a setting that no trial can have, as far as it is known."""
    parts, _, setting = key.partition(".")
    if parts not in ("stages", "tasks") or not setting:
        return nearest(key, known)
    shared = f"training.{setting.rpartition('.')[2]}"
    if shared not in known:
        return f"; {parts} are the same in all trials"
    return f"; {parts} are the same in all trials: leave it out there and search {shared}"


def _space_problems(config: Config, space: Mapping[str, SpaceEntry], path: str) -> list[Problem]:
    """Return what is wrong with the entries of a space, each by itself."""
    assert config.search is not None
    problems: list[Problem] = []
    known, searched = searchable_keys(), {*config.search.space, *space}
    for key, entry in space.items():
        at = f"{path}.{key}"
        if key not in known:
            problems.append(Problem(at, _unknown(key, known, "can be searched")))
            continue
        for other in entry.when or {}:
            if other not in searched or other == key:
                problems.append(Problem(f"{at}.when", "must name another searched setting", other))
        values = entry.choices if isinstance(entry, Choices) else [entry.low, entry.high]
        for value in values:
            problems += _assignment_problems(config, {key: value}, at)
    return problems


def _combination_problems(config: Config) -> list[Problem]:
    """Return the first combination of searched values that FILE would refuse, of each arm."""
    problems: list[Problem] = []
    for name, arm in by_arm(config).items():
        path = "search.space" if name is None else f"search.arms.{name}"
        assert arm.search is not None
        if not arm.search.space:
            given = "sets every searched setting, so that its trials would all be the same"
            problems.append(Problem(path, given))
            continue
        found = (_refused(arm, each, path) for each in combinations(arm))
        problems += next((problem for problem in found if problem), [])
    return problems


def _refused(config: Config, assignments: Mapping[str, Any], path: str) -> list[Problem]:
    hint = "holds values that do not fit together"
    return [
        Problem(path, f"{hint}: {problem.message}; keep them apart with when", assignments)
        for problem in _assignment_problems(config, assignments, path)[:1]
    ]


def _assignment_problems(config: Config, values: Mapping[str, Any], path: str) -> list[Problem]:
    try:
        with_settings(config, values)
    except ValidationError as error:
        return [
            Problem(path, _about(problem, values), problem.given) for problem in problems_of(error)
        ]
    return []


def _about(problem: Problem, values: Mapping[str, Any]) -> str:
    """Return what is wrong with an assignment, with its subject where that is another setting."""
    of_these = any(key.startswith(problem.path) or problem.path.startswith(key) for key in values)
    return problem.message if of_these else f"{problem.path} {problem.message}"
