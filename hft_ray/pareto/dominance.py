"""Pareto dominance: which points another one is at least as good as in every objective.

Symbols: n points, m objectives, all minimised.

    F    (n, m)  objective values

a dominates b when a_j <= b_j for all j and a_j < b_j for one; equal points do not dominate each
other.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import moocore
import numpy as np
from numpy.typing import NDArray

from hft_ray.pareto.points import Array


def minimised(values: Sequence[Mapping[str, float]], objectives: Mapping[str, str]) -> Array:
    """Return the objectives of ``values`` as an (n, m) array in which less is better."""
    signs = [-1.0 if direction == "max" else 1.0 for direction in objectives.values()]
    table = [[float(each[name]) for name in objectives] for each in values]
    return np.array(table, dtype=np.float64).reshape(-1, len(objectives)) * np.array(signs)


def dominates(one: Array, other: Array) -> NDArray[np.bool_]:
    """Return where ``one`` dominates ``other``.

    Args:
        one: Costs, the objectives along the first axis, (m, ...).
        other: Costs of a shape that broadcasts with it.
    """
    nowhere_worse: NDArray[np.bool_] = one[0] <= other[0]
    better: NDArray[np.bool_] = one[0] < other[0]
    for ours, theirs in zip(one[1:], other[1:], strict=True):
        nowhere_worse &= ours <= theirs
        better |= ours < theirs
    return nowhere_worse & better


def is_dominated(
    values: Mapping[str, float],
    others: Iterable[Mapping[str, float]],
    objectives: Mapping[str, str],
) -> bool:
    """Return whether one of ``others`` dominates ``values``; what is missing is the worst.

    Args:
        values: Metric -> value.
        others: The same of other points.
        objectives: Metric -> max or min.
    """
    worst = {name: -math.inf if way == "max" else math.inf for name, way in objectives.items()}
    costs = minimised([{**worst, **each} for each in (values, *others)], objectives)
    return bool(dominates(costs[1:].T, costs[0][:, None]).any())


def nondominated(costs: Array) -> NDArray[np.bool_]:
    """Return for each row of an (n, m) array whether no other row dominates it; equal rows stay."""
    if not len(costs):
        return np.zeros(0, dtype=bool)
    return np.asarray(moocore.is_nondominated(costs, keep_weakly=True), dtype=bool)


def front_ranks(costs: Array) -> NDArray[np.int64]:
    """Return the front of each row of an (n, m) array, (n,): 0 for those that none dominates.

    Front k holds what only rows of the fronts before it dominate (non-dominated sorting; Deb et
    al., "A fast and elitist multiobjective genetic algorithm: NSGA-II", 2002).
    """
    return np.asarray(moocore.pareto_rank(costs), dtype=np.int64)
