"""The race for seeds: configurations that may be on the front, given noise, get another seed.

A race in the sense of Maron and Moore ("Hoeffding races", NIPS 1993), for several objectives. Each
configuration has the mean of its seeds. A configuration is out when another is ahead in every
objective by more than the noise of their difference,

    mean_i - mean_j >= Z s_ij,

where s_ij is the standard error of the difference: that of the items, which both answer, and that
of the seeds, which each has its own of (see :mod:`hft_ray.pareto.noise`). Where no error of the
items is known and no configuration has two seeds, s is 0 and only the front itself is in the race.

Symbols: n configurations, m objectives, all minimised.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from optuna.trial import FrozenTrial, TrialState

from hft_ray.config import STDERR, Search
from hft_ray.pareto import Direction, ItemInfluences, Point, merged, noise_of, seed_covariance
from hft_ray.search.trial_snapshot import configuration_of, trial_id

Floats = NDArray[np.float64]
Z = 1.645
"""One-sided 95 % of the normal distribution."""
LEAST = 8
"""Complete configurations before any gets a second seed, unless all have begun."""
SHARE = 1 / 2
"""Further seeds for each configuration that has begun, at most, while there are more to begin."""


def contenders(points: Sequence[Point], objectives: Mapping[str, Direction]) -> NDArray[np.bool_]:
    """Return which configurations are in the race, (n,), each the mean of its seeds."""
    if not points:
        return np.zeros(0, dtype=bool)
    signs = np.array([-1.0 if direction == "max" else 1.0 for direction in objectives.values()])
    means = np.array([[point.values[name] for name in objectives] for point in points]) * signs
    noise = noise_of(points, objectives, seed_covariance(points, objectives))
    return _not_behind(means, noise.differences(slice(None), slice(None)))


def _not_behind(means: Floats, errors: Floats) -> NDArray[np.bool_]:
    """Return who is not behind another, (n,), by the errors of all differences, (n, n, m)."""
    gap = means[:, None] - means
    behind = np.all(gap >= Z * errors, axis=2) & np.any(gap > 0, axis=2)
    return np.asarray(~behind.any(axis=1), dtype=bool)


def further_seed(
    trials: Sequence[FrozenTrial],
    search: Search,
    exploring: bool,
    answers: Callable[[str], ItemInfluences | None],
) -> tuple[int, int] | None:
    """Return who gets another seed now: number of its first trial, and how many seeds it has.

    Fewest seeds first, then the earliest. None when none is due: every configuration in the race
    has ``search.seeds``, or it is the turn of a new configuration.

    Args:
        trials: The trials that have begun.
        search: Section ``search`` of FILE.
        exploring: Whether there are more configurations to begin.
        answers: Trial -> what it scored on single items, where that is known.
    """
    groups: dict[int, list[FrozenTrial]] = {}
    for trial in trials:
        groups.setdefault(configuration_of(trial), []).append(trial)
    ended = {number: _complete(group) for number, group in groups.items()}
    ready = [number for number, group in ended.items() if group]
    further = len(trials) - len(groups)
    if exploring and (further >= SHARE * len(groups) or len(ready) < LEAST):
        return None
    entrants = [number for number in ready if _keeps_constraints(ended[number])]
    means = merged([_point(trial, search, answers) for n in entrants for trial in ended[n]])
    racing = zip(entrants, contenders(means, search.objectives), strict=True)
    waiting = [(len(groups[n]), n) for n, on in racing if on and len(groups[n]) < search.seeds]
    if not waiting:
        return None
    given, number = min(waiting)
    return number, given


def _complete(group: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    return [trial for trial in group if trial.state == TrialState.COMPLETE]


def _keeps_constraints(group: Sequence[FrozenTrial]) -> bool:
    """Return whether the mean violation of each constraint is 0 or less."""
    violations = [list(trial.constraints.values()) for trial in group]
    return bool((np.mean(violations, axis=0) <= 0).all())


def _point(
    trial: FrozenTrial, search: Search, answers: Callable[[str], ItemInfluences | None]
) -> Point:
    """Return a complete trial as a point that names its configuration."""
    name = trial_id(trial.number)
    values = trial.user_attrs.get("result", {}).get("values", {})
    return Point(
        trial=name,
        variant=None,
        run_id=None,
        state="complete",
        step=0,
        values=dict(zip(search.objectives, trial.values, strict=True)),
        errors={n: values[f"{STDERR}{n}"] for n in search.objectives if f"{STDERR}{n}" in values},
        configuration=trial_id(configuration_of(trial)),
        answers=answers(name),
    )
