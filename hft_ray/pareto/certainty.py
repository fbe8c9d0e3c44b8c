"""How sure a front is, from the noise of its points."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hft_ray.pareto.front import Array, Front, minimised
from hft_ray.pareto.noise import Noise, noise_of, seed_covariance
from hft_ray.pareto.points import Direction, Point
from hft_ray.pareto.rules import knee
from hft_ray.pareto.uncertainty import (
    Estimate,
    far_behind,
    front_probability,
    hypervolume_estimate,
    knee_probability,
)


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


def certainty(front: Front) -> Certainty | None:
    """Return how sure the front (of means over seeds) is; None without any standard error."""
    front = front.averaged
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

    A value without a standard error is taken as exact.
    """
    usable = [point for point in points if point.eligible(objectives)]
    rows = [[point.errors.get(name, 0.0) for name in objectives] for point in usable]
    errors = np.array(rows, dtype=np.float64).reshape(len(usable), len(objectives))
    costs = minimised([point.values for point in usable], objectives)
    behind = far_behind(costs, np.where(np.isfinite(errors), errors, 0.0))
    return [point for point, out in zip(usable, behind, strict=True) if not out]


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
