"""Averages whose share changes with the depth, a + b d: where they serve a front most.

Their update is scaled by layer, as in LiNeS (arXiv 2410.17146); d runs from 0 at the first layer to
1 at the last. Each is a uniform average of alpha, tilted: a + b / 2 = alpha, so that the same share
of the update is kept on the whole, more of it in early layers (b < 0) or in late ones (b > 0).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from hft_ray.pareto.dominance import minimised
from hft_ray.pareto.hypervolume import hypervolume
from hft_ray.pareto.spread import Values

Tilt = tuple[float, float]
"""a and b."""
ScoreTilt = Callable[[Tilt], Values]
_TILT = "depth-"
_FALLING_FIRST = (-1, 1)


def tilt_name(tilt: Tilt) -> str:
    """Return the name of a tilted average; with all digits, as :func:`spread.average_name`."""
    return _TILT + ",".join(map(repr, tilt))


def tilt_of(variant: str) -> Tilt | None:
    """Return a and b of a tilted average's name; None for another variant's."""
    if not variant.startswith(_TILT):
        return None
    a, b = variant.removeprefix(_TILT).split(",")
    return float(a), float(b)


def tilts(
    wanted: int | Sequence[Tilt],
    curve: Mapping[float, Values],
    objectives: Mapping[str, str],
    score: ScoreTilt,
) -> Iterator[tuple[Tilt, Values]]:
    """Yield tilts and what they scored.

    A number of them is placed by what the front gains: first the average that adds most to the
    hypervolume of the curve is tilted either way; then, of those that are left, the next one is
    tilted in the way that has gained more so far. There are at most two for each average.

    Args:
        wanted: How many, or which.
        curve: alpha -> values of the uniform averages, the base (0) and the trained model (1).
        objectives: The metrics that are compared.
        score: Scores a tilt.
    """
    if not isinstance(wanted, int):
        for tilt in wanted:
            yield tilt, score(tilt)
        return
    alphas = sorted(set(curve) - {0.0, 1.0}, key=lambda alpha: -_adds(alpha, curve, objectives))
    left = {way: list(alphas or [0.5]) for way in _FALLING_FIRST}
    gains: dict[int, list[float]] = {way: [] for way in _FALLING_FIRST}
    known = list(curve.values())
    for _ in range(min(wanted, 2 * len(left[1]))):
        way = max((way for way in left if left[way]), key=lambda way: _mean(gains[way]))
        alpha = left[way].pop(0)
        slope = way * min(alpha, 1 - alpha)
        tilt = (alpha - slope / 2, slope)
        values = score(tilt)
        gains[way].append(_gain(values, known, objectives))
        known.append(values)
        yield tilt, values


def _mean(gains: Sequence[float]) -> float:
    """Return the mean, infinite before there is any: what has not been tried comes first."""
    return math.fsum(gains) / len(gains) if gains else math.inf


def _adds(alpha: float, curve: Mapping[float, Values], objectives: Mapping[str, str]) -> float:
    """Return what an average adds to the hypervolume of the others."""
    others = [values for other, values in curve.items() if other != alpha]
    return _gain(curve[alpha], others, objectives)


def _gain(values: Values, others: Sequence[Values], objectives: Mapping[str, str]) -> float:
    """Return what ``values`` add to the hypervolume of ``others``, up to the worst of all.

    What is not measured adds nothing.
    """
    found = [
        each
        for each in (*others, values)
        if all(math.isfinite(each.get(name, math.nan)) for name in objectives)
    ]
    if not found or found[-1] is not values:
        return 0.0
    costs = minimised(found, objectives)
    worst = np.asarray(costs.max(axis=0))
    return hypervolume(costs, worst) - hypervolume(costs[:-1], worst)
