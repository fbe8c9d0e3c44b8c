"""Fronts read at the same level: at the same task score, what is forgotten?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hft_ray.pareto.front import Front
from hft_ray.pareto.points import Point

_MOST_LEVELS = 8


@dataclass(frozen=True)
class Match:
    """One objective of several fronts at levels of another.

    Attributes:
        at: The objective that is matched, the fronts' first.
        objective: The objective that is read.
        levels: Values of ``at``, best first.
        cells: For each level and each front the point that is best in ``objective`` among those
            at least as good as the level in ``at``; None where a front does not reach it.
    """

    at: str
    objective: str
    levels: tuple[float, ...]
    cells: tuple[tuple[Point | None, ...], ...]


def matches(fronts: Sequence[Front], levels: Sequence[float] | None = None) -> list[Match]:
    """Return a table per objective but the first; none when there is one objective only.

    Args:
        fronts: Fronts with the same objectives.
        levels: Values of the first objective, best first; by default the fronts' own, thinned.
    """
    at, *others = fronts[0].objectives
    if levels is None:
        levels = _levels(fronts, at)
    return [
        Match(
            at=at,
            objective=name,
            levels=tuple(levels),
            cells=tuple(tuple(_best(f, at, level, name) for f in fronts) for level in levels),
        )
        for name in others
    ]


def _levels(fronts: Sequence[Front], at: str) -> list[float]:
    """Return the values of the fronts' own points, evenly thinned, best first."""
    values = sorted({point.values[at] for front in fronts for point in front.members})
    if fronts[0].objectives[at] == "max":
        values.reverse()
    return thinned(values, _MOST_LEVELS)


def thinned(values: Sequence[float], most: int) -> list[float]:
    """Return at most ``most`` of the values, evenly spread, the first and the last among them."""
    if len(values) <= most:
        return list(values)
    last = len(values) - 1
    chosen = {round(i * last / (most - 1)) for i in range(most)}
    return [values[index] for index in sorted(chosen)]


def _best(front: Front, at: str, level: float, name: str) -> Point | None:
    at_sign, sign = _sign(front, at), _sign(front, name)
    reach = [p for p in front.members if at_sign * p.values[at] <= at_sign * level]
    return min(reach, key=lambda p: sign * p.values[name], default=None)


def _sign(front: Front, name: str) -> int:
    """Return the factor that makes less of an objective better."""
    return -1 if front.objectives[name] == "max" else 1
