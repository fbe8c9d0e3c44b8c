"""How sure a front is, from the noise of its points."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hft_ray.pareto.front import Array, Front, minimised, nondominated
from hft_ray.pareto.noise import Noise, noise_of, seed_covariance
from hft_ray.pareto.points import Direction, Point
from hft_ray.pareto.rules import knee
from hft_ray.pareto.uncertainty import (
    Estimate,
    front_probability,
    hypervolume_estimate,
    knee_probability,
)

_FAR = 7.0
"""A point this many standard errors of the difference behind another cannot be on the front."""
_MOST_AHEAD = 64
"""Points of the measured front that others are compared with."""
_AT_ONCE = 512


@dataclass(frozen=True)
class Certainty:
    """What noise leaves open.

    Attributes:
        hypervolume: The hypervolume of the true values.
        probabilities: Label of each point on the front -> how probably it is on the true front.
        knees: Label of each point on the front -> how probably it is the knee of the true front.
    """

    hypervolume: Estimate
    probabilities: dict[str, float]
    knees: dict[str, float]


def certainty_of(front: Front) -> Certainty | None:
    """Return how sure a front of means over seeds is (``Front.certainty``)."""
    points = contenders(front.points, front.objectives)
    costs, noise = measured(points, front.objectives, front.points)
    if not noise.errors.any():
        return None
    corner = minimised([front.reference_point], front.objectives)[0]
    on_front = {point.label for point in front.members}

    def best(costs: Array) -> int:
        return knee(costs, front.objectives, front.preferred)

    def shown(values: Array) -> dict[str, float]:
        pairs = zip(points, values, strict=True)
        return {point.label: float(x) for point, x in pairs if point.label in on_front}

    return Certainty(
        hypervolume=hypervolume_estimate(costs, noise, corner),
        probabilities=shown(front_probability(costs, noise)),
        knees=shown(knee_probability(costs, noise, best)),
    )


def contenders(points: Sequence[Point], objectives: Mapping[str, Direction]) -> list[Point]:
    """Return the points that the true front may hold: eligible, and not far behind another.

    Behind a point of the measured front, that is, by the errors of their differences: what keeps a
    sweep of thousands of points quick. A value without an error is taken as exact.
    """
    usable = [point for point in points if point.eligible(objectives)]
    costs = minimised([point.values for point in usable], objectives)
    front = np.flatnonzero(nondominated(costs))
    front = front[np.argsort(costs[front, 0], kind="stable")]
    spread = np.linspace(0, len(front) - 1, min(len(front), _MOST_AHEAD))
    front = front[spread.round().astype(int)]
    covariance = seed_covariance(usable, objectives)
    found: list[Point] = []
    for start in range(0, len(usable), _AT_ONCE):
        some = usable[start : start + _AT_ONCE]
        ahead = slice(0, len(front))
        noise = noise_of([*(usable[i] for i in front), *some], objectives, covariance)
        errors = noise.differences(slice(len(front), None), ahead)
        gap = costs[start : start + _AT_ONCE, None] - costs[front]
        behind = (gap >= _FAR * errors).all(axis=2) & (gap > 0).any(axis=2)
        found += [p for p, out in zip(some, behind.any(axis=1), strict=True) if not out]
    return found


def measured(
    points: Sequence[Point], objectives: Mapping[str, Direction], sweep: Sequence[Point]
) -> tuple[Array, Noise]:
    """Return minimised values (n, m) of points and their noise.

    Args:
        points: The points.
        objectives: Metric -> direction.
        sweep: All points of their sweep, which tell how far seeds lie apart.
    """
    eligible = [point for point in sweep if point.eligible(objectives)]
    noise = noise_of(points, objectives, seed_covariance(eligible, objectives))
    return minimised([point.values for point in points], objectives), noise
