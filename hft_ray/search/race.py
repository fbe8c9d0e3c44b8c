"""Which configurations get another seed: those that may be on the front, as far as noise tells.

A race in the sense of Maron and Moore ("Hoeffding races", NIPS 1993), for several objectives. Each
configuration has the mean of its seeds. The variance between seeds is pooled over all
configurations that have several, for two or three seeds of one say little. A configuration is out
when another is ahead in every objective by more than the noise of their difference,

    mean_i - mean_j >= Z s sqrt(1 / k_i + 1 / k_j),

with k seeds each and the pooled standard deviation s. As long as no configuration has two seeds, s
is 0 and only the front itself is in the race.

Symbols: n configurations, m objectives, all minimised.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from optuna.trial import FrozenTrial, TrialState

from hft_ray.config import Search
from hft_ray.search.known import configuration_of

Floats = NDArray[np.float64]
Z = 1.645
"""One-sided 95 % of the normal distribution."""
LEAST = 8
"""Complete configurations before any gets a second seed, unless all have begun."""
SHARE = 1 / 2
"""Further seeds for each configuration that has begun, at most, while there are more to begin."""


def contenders(seeds: Sequence[Floats]) -> NDArray[np.bool_]:
    """Return who is in the race, (n,), given the (k, m) costs of each one's seeds, k >= 1."""
    if not seeds:
        return np.zeros(0, dtype=bool)
    means = np.array([each.mean(axis=0) for each in seeds])
    counts = np.array([len(each) for each in seeds])
    margin = Z * _deviation(seeds, means) * np.sqrt(1 / counts[:, None] + 1 / counts)[..., None]
    gap = means[:, None] - means
    behind = (gap >= margin).all(axis=2) & (gap > 0).any(axis=2)
    return ~behind.any(axis=1)


def _deviation(seeds: Sequence[Floats], means: Floats) -> Floats:
    """Return the pooled standard deviation in each objective, (m,); 0 where nothing is known."""
    freedom = sum(len(each) - 1 for each in seeds)
    pairs = zip(seeds, means, strict=True)
    squares = sum(((each - mean) ** 2).sum(axis=0) for each, mean in pairs)
    return np.asarray(np.sqrt(squares / max(1, freedom)))


def further_seed(
    trials: Sequence[FrozenTrial], search: Search, exploring: bool
) -> tuple[int, int] | None:
    """Return who gets another seed now: number of its first trial, and how many seeds it has.

    Fewest seeds first, then the earliest. None when nobody is to have one: everyone in the race
    has ``search.seeds``, or it is the turn of a new configuration.

    Args:
        trials: The trials that have begun.
        search: Section ``search`` of FILE.
        exploring: Whether there are more configurations to begin.
    """
    if search.seeds == 1:
        return None
    groups: dict[int, list[FrozenTrial]] = {}
    for trial in trials:
        groups.setdefault(configuration_of(trial), []).append(trial)
    ended = {number: _complete(group) for number, group in groups.items()}
    ready = [number for number, group in ended.items() if group]
    further = len(trials) - len(groups)
    if exploring and (further >= SHARE * len(groups) or len(ready) < LEAST):
        return None
    entrants = [number for number in ready if _keeps_constraints(ended[number])]
    signs = [-1.0 if direction == "max" else 1.0 for direction in search.objectives.values()]
    costs = [np.array([trial.values for trial in ended[n]]) * signs for n in entrants]
    racing = zip(entrants, contenders(costs), strict=True)
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
