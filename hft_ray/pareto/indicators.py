"""Quality indicators of one front relative to another: additive epsilon and IGD+.

Symbols: A (n, m) is the front, R (k, m) the reference front; both are minimised. The values are in
the units of the objectives: with objectives of different units the one with the largest numbers
decides.
"""

from __future__ import annotations

import math

import moocore

from hft_ray.pareto.points import Array


def epsilon(costs: Array, reference: Array) -> float:
    """Return the additive epsilon indicator: how much A must improve to be nowhere behind R,

        max_{r in R} min_{a in A} max_j (a_j - r_j)

    (Zitzler et al., "Performance assessment of multiobjective optimizers", IEEE TEC 7(2), 2003).
    It is 0 or less when A weakly dominates R, infinite when A is empty, nan when R is.
    """
    if not len(reference):
        return math.nan
    return float(moocore.epsilon_additive(costs, ref=reference)) if len(costs) else math.inf


def igd_plus(costs: Array, reference: Array) -> float:
    """Return IGD+: the mean distance by which A is behind R, only worse objectives counted,

        1/k sum_{r in R} min_{a in A} ||max(a - r, 0)||_2

    (Ishibuchi et al., "Modified distance calculation in generational distance and inverted
    generational distance", EMO 2015). It is 0 when A weakly dominates R, infinite when A is empty,
    nan when R is.
    """
    if not len(reference):
        return math.nan
    return float(moocore.igd_plus(costs, ref=reference)) if len(costs) else math.inf
