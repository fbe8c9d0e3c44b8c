"""How certain a front is, given the noise of its points."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hft_ray.config.sections.constraints import Preference
from hft_ray.pareto.dominance import minimised, nondominated
from hft_ray.pareto.knee import knee
from hft_ray.pareto.noise import Noise, noise_of, seed_covariance
from hft_ray.pareto.points import Array, Direction, Point
from hft_ray.pareto.uncertainty import (
    IntervalEstimate,
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

    hypervolume: IntervalEstimate
    probabilities: dict[str, float]
    knees: dict[str, float]


def certainty_of(
    sweep: Sequence[Point],
    on_front: Collection[str],
    objectives: Mapping[str, Direction],
    reference_point: Mapping[str, float],
    preference: Preference | None = None,
) -> Certainty | None:
    """Return how certain the front of a sweep is; None where no value has an error.

    Args:
        sweep: All points of the sweep, several seeds as one.
        on_front: Labels of those on its front.
        objectives: Metric -> direction.
        reference_point: Objective -> worst value that counts for the hypervolume.
        preference: Which compromise the knee is to be.
    """
    points = contenders(sweep, objectives)
    costs, noise = measured(points, objectives, sweep)
    if not noise.errors.any():
        return None
    corner = minimised([reference_point], objectives)[0]

    def best(costs: Array) -> int:
        return knee(costs, objectives, preference)

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
