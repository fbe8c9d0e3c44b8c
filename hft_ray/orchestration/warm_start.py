"""Warm start: trials of earlier sweeps in MLflow from which a new sweep starts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hft_ray.config import Config, ConfigError, Problem
from hft_ray.config.keys import decisive, settings, with_settings
from hft_ray.config.rules.combinations import applies, ordered
from hft_ray.config.rules.narrowing import contains
from hft_ray.orchestration.folder import SweepFolder
from hft_ray.orchestration.fronts import config_of, front_of
from hft_ray.orchestration.sweep_comparison import incomparable
from hft_ray.pareto import Front, Point
from hft_ray.search.prior_trials import PriorTrial, WarmStart, spread
from hft_ray.tracking import read_sweep, tracking_uri


def warm_start(config: Config, folder: SweepFolder) -> WarmStart:
    """Return the warm start of a sweep; one that has begun keeps the one it began with.

    A complete trial of an earlier sweep is known when that sweep has the same objectives and
    evaluations and the trial could be one of this sweep: every setting that is not searched here,
    seeds aside, is FILE's, and the others lie in the space. The front of a sweep with no such trial
    gives points to begin with.

    Raises:
        ConfigError: Sweeps that are not there, all of them together.
    """
    assert config.search is not None
    if folder.study.is_file():
        return WarmStart.read(folder.warm)
    known: list[PriorTrial] = []
    points: list[PriorTrial] = []
    problems: list[Problem] = []
    for index, name in enumerate(config.search.warm_start):
        path = f"search.warm_start.{index}"
        try:
            mine, theirs = _from_sweep(config, folder.root, name)
        except ConfigError as error:
            problems += [Problem(path, each.message, name) for each in error.problems]
            continue
        known += mine
        points += theirs
    if problems:
        raise ConfigError(problems)
    return WarmStart(tuple(known), spread(points, config.search.trials))


def keep(warm: WarmStart, folder: SweepFolder) -> None:
    """Write the warm start to the sweep's folder, which is claimed."""
    if not folder.study.is_file():
        partial = folder.warm.with_suffix(".tmp")
        partial.write_text(warm.to_json(), encoding="utf-8")
        partial.replace(folder.warm)


def _from_sweep(config: Config, root: Path, name: str) -> tuple[list[PriorTrial], list[PriorTrial]]:
    """Return the known trials of an earlier sweep, or else the points of its front."""
    if name == config.name:
        raise ConfigError(Problem("NAME", "is this sweep; it continues without search.warm_start"))
    uri = tracking_uri(config.tracking.uri, root)
    record = read_sweep(uri, config.tracking.experiment, name)
    earlier = config_of(record)
    front = front_of(record, earlier)
    if not incomparable([config, earlier], [_objectives(config), front.objectives]):
        metrics = {each.trial: each.metrics for each in record.trials}
        trials = [point for point in front.points if point.variant is None]
        found = [
            _known(config, earlier, point, metrics[point.trial], record.base)
            for point in trials
            if point.state == "complete" and point.measured(config.search.objectives)  # type: ignore[union-attr]
        ]
        if known := [each for each in found if each is not None]:
            return [_named(each, name) for each in known], []
    return [], [_named(each, name) for each in _points(config, front)]


def _objectives(config: Config) -> Mapping[str, str]:
    assert config.search is not None
    return config.search.objectives


def _named(earlier: PriorTrial, name: str) -> PriorTrial:
    return PriorTrial(
        f"{name}/{earlier.source}", earlier.params, earlier.values, earlier.violations
    )


def _known(
    config: Config,
    earlier: Config,
    point: Point,
    values: Mapping[str, float],
    base: Mapping[str, float],
) -> PriorTrial | None:
    """Return an earlier trial as a trial of this sweep, None if this sweep could not have it."""
    assert config.search is not None
    space, bounds = config.search.space, config.search.bounds
    theirs, mine = decisive(with_settings(earlier, point.params)), decisive(config)
    for key in theirs.keys() | mine.keys():
        seed = key.rsplit(".", 1)[-1] == "seed"
        if key not in space and not seed and theirs.get(key) != mine.get(key):
            return None
    params = _searched(config, theirs)
    missing = [each for each in bounds if each.of_base and each.metric not in base]
    if missing or not all(contains(space[key], value) for key, value in params.items()):
        return None
    violations = {str(each): each.violation(values, base) for each in bounds}
    return PriorTrial(
        point.trial, params, [point.values[n] for n in _objectives(config)], violations
    )


def _searched(config: Config, resolved: Mapping[str, Any]) -> dict[str, Any]:
    """Return the searched settings that apply to a trial."""
    assert config.search is not None
    chosen: dict[str, Any] = {}
    for key in ordered(config.search.space):
        if applies(config.search.space[key], chosen, settings(config)):
            chosen[key] = resolved.get(key)
    return chosen


def _points(config: Config, front: Front) -> list[PriorTrial]:
    """Return the settings of a front's points, where they lie in this sweep's space."""
    assert config.search is not None
    space = config.search.space
    found: list[PriorTrial] = []
    for point in front.averaged.members:
        inside = {k: x for k, x in point.params.items() if k in space and contains(space[k], x)}
        if inside and all(inside != other.params for other in found):
            found.append(PriorTrial(point.trial, inside))
    return found
