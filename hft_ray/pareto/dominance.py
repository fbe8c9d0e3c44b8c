"""Pareto dominance: which points another one is at least as good as in every objective.

Symbols: n points, m objectives, all minimised.

    F    (n, m)  objective values

a dominates b when a_j <= b_j for all j and a_j < b_j for one; equal points do not dominate each
other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import moocore
import numpy as np
from numpy.typing import NDArray

from hft_ray.pareto.points import Array, Direction


def minimised(values: Sequence[Mapping[str, float]], objectives: Mapping[str, Direction]) -> Array:
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


def nondominated(costs: Array) -> NDArray[np.bool_]:
    """Return for each row of an (n, m) array whether no other row dominates it; equal rows stay."""
    if not len(costs):
        return np.zeros(0, dtype=bool)
    return np.asarray(moocore.is_nondominated(costs, keep_weakly=True), dtype=bool)
