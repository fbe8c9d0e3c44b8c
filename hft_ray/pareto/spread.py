"""Which further points of one trained model serve a front most: averages, models on the way."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise

from hft_ray.pareto.dominance import is_dominated

Values = dict[str, float]
ScoreAlpha = Callable[[float], Values]
_AVERAGE = "alpha-"


def average_name(alpha: float) -> str:
    """Return the name of an average; with all digits, since the export makes it again by it."""
    return f"{_AVERAGE}{alpha!r}"


def alpha_of(variant: str) -> float | None:
    """Return the alpha of an average's name; None for another variant's."""
    return float(variant.removeprefix(_AVERAGE)) if variant.startswith(_AVERAGE) else None


def averages(
    wanted: int | Sequence[float],
    ends: tuple[Values, Values],
    objectives: Mapping[str, str],
    score: ScoreAlpha,
) -> Iterator[tuple[float, Values]]:
    """Yield alphas and what they scored.

    Args:
        wanted: How many, or which.
        ends: Values of the base (alpha 0) and of the trained model (alpha 1).
        objectives: The metrics that are compared.
        score: Scores the average of a given alpha.
    """
    if not isinstance(wanted, int):
        for alpha in wanted:
            yield alpha, score(alpha)
        return
    curve = {0.0: ends[0], 1.0: ends[1]}
    for _ in range(wanted):
        alpha = widest(curve, objectives)
        curve[alpha] = score(alpha)
        yield alpha, curve[alpha]


def widest(curve: Mapping[float, Values], objectives: Mapping[str, str]) -> float:
    """Return the middle of the two neighbours that leave most room for the front between them.

    Room is the volume of the box that they span in the objectives: no point of a falling curve
    between them can add more to the hypervolume. Of equal ones, the widest in alpha, then the one
    next to the trained model.
    """
    alphas = sorted(curve)

    def room(pair: tuple[float, float]) -> tuple[float, float, float]:
        low, high = pair
        sides = (abs(curve[high].get(x, 0.0) - curve[low].get(x, 0.0)) for x in objectives)
        volume = math.prod(sides)
        return (volume if math.isfinite(volume) else 0.0, high - low, high)

    low, high = max(pairwise(alphas), key=room)
    return (low + high) / 2


def least_needed(found: Sequence[Values], objectives: Mapping[str, str]) -> int:
    """Return the index of the one whose loss leaves the rest spread most widely.

    One that another dominates, else the one with the smallest crowding distance of NSGA-II
    (Deb et al. 2002, section III-B): the sum over the objectives of the distance between its two
    neighbours, relative to the whole range; ends are never crowded. Of equal ones the earliest.
    """
    for index, values in enumerate(found):
        if is_dominated(values, [*found[:index], *found[index + 1 :]], objectives):
            return index
    distances = [0.0] * len(found)
    for name in objectives:
        order = sorted(range(len(found)), key=lambda index: found[index].get(name, 0.0))
        width = found[order[-1]].get(name, 0.0) - found[order[0]].get(name, 0.0)
        distances[order[0]] = distances[order[-1]] = math.inf
        for before, index, after in zip(order, order[1:], order[2:], strict=False):
            gap = found[after].get(name, 0.0) - found[before].get(name, 0.0)
            distances[index] += gap / width if width > 0 else 0.0
    return distances.index(min(distances))
