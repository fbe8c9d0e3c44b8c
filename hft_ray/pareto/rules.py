"""What a user asks of a front beyond its objectives: limits of metrics, and a preferred compromise.

Symbols: F (n, m) costs of a front, minimised; z* and z^n (m,) its best and worst values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hft_ray.pareto.points import Direction, Point

Array = NDArray[np.float64]
SPARE = 0.05
"""Weight of the sum beside the maximum, so that of equal maxima the better point is taken."""


@dataclass(frozen=True)
class Limit:
    """A bound of a metric that a point must keep to be on the front."""

    metric: str
    sign: Literal["<=", ">="]
    value: float

    def keeps(self, point: Point) -> bool:
        """Return whether the point keeps it; one in which the metric was not measured does not."""
        if not point.measured([self.metric]):
            return False
        value = point.values[self.metric]
        return value <= self.value if self.sign == "<=" else value >= self.value


@dataclass(frozen=True)
class Preferred:
    """Which compromise is wanted: objective -> weight, or objective -> target in its own unit."""

    weights: Mapping[str, float] | None = None
    target: Mapping[str, float] | None = None


def judged(points: Sequence[Point], limits: Sequence[Limit]) -> list[Point]:
    """Return the points, each told whether it keeps the limits; without limits as they are."""
    if not limits:
        return list(points)
    return [replace(p, feasible=all(each.keeps(p) for each in limits)) for p in points]


def knee(
    costs: Array, objectives: Mapping[str, Direction], preferred: Preferred | None = None
) -> int:
    """Return the row of an (n, m) front, n >= 1, that is the best compromise.

    The rule is compromise programming with the Euclidean norm (Yu, "A class of solutions for
    group decision problems", Management Science 19(8), 1973): scale each objective by ideal and
    nadir to [0, 1] and take the point nearest the ideal, objectives weighted by w (1 by default),

        argmin_i ||w (F_i - z*) / (z^n - z*)||_2.

    With a target t the rule is the achievement function (Wierzbicki, "The use of reference
    objectives in multiobjective optimization", 1980), which asks for more where t is surpassed:

        argmin_i max_j d_ij + 0.05 sum_j d_ij,    d_i = (F_i - t) / (z^n - z*).

    An objective in which the whole front is equal decides nothing. Of equally near points the
    first is taken.
    """
    ideal, nadir = costs.min(axis=0), costs.max(axis=0)
    span = np.where(nadir > ideal, nadir - ideal, 1.0)
    if preferred is not None and preferred.target is not None:
        aim = _aim(objectives, preferred.target, ideal)
        apart = np.where(nadir > ideal, (costs - aim) / span, 0.0)
        return int(np.argmin(apart.max(axis=1) + SPARE * apart.sum(axis=1)))
    weights = (preferred.weights if preferred else None) or {}
    factors = np.array([weights.get(name, 1.0) for name in objectives])
    return int(np.argmin(np.linalg.norm(factors * (costs - ideal) / span, axis=1)))


def _aim(objectives: Mapping[str, Direction], target: Mapping[str, float], ideal: Array) -> Array:
    """Return the target, minimised; the ideal where an objective has none."""
    signs = [-1.0 if direction == "max" else 1.0 for direction in objectives.values()]
    named = zip(objectives, signs, ideal, strict=True)
    return np.array([sign * target[n] if n in target else best for n, sign, best in named])
