"""How sure a front is, from the standard errors of its points."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hft_ray.pareto.front import Array, Front, minimised
from hft_ray.pareto.points import Direction, Point
from hft_ray.pareto.uncertainty import Estimate, front_probability, hypervolume_estimate


@dataclass(frozen=True)
class Certainty:
    """What noise leaves open.

    Attributes:
        hypervolume: The hypervolume of the true values.
        probabilities: Label of each point on the front -> how probably it is on the true front.
    """

    hypervolume: Estimate
    probabilities: dict[str, float]


def certainty(front: Front) -> Certainty | None:
    """Return how sure the front is, None when no value has a standard error."""
    costs, errors = measured(front.points, front.objectives)
    if not errors.any():
        return None
    corner = minimised([front.reference_point], front.objectives)[0]
    pairs = zip(front.points, front.on_front, strict=True)
    shown = [on for point, on in pairs if point.eligible(front.objectives)]
    labels = [point.label for point in front.points if point.eligible(front.objectives)]
    found = zip(labels, front_probability(costs, errors), shown, strict=True)
    return Certainty(
        hypervolume=hypervolume_estimate(costs, errors, corner),
        probabilities={label: float(x) for label, x, on in found if on},
    )


def measured(points: Sequence[Point], objectives: Mapping[str, Direction]) -> tuple[Array, Array]:
    """Return minimised values and standard errors (n, m) of the points that a front may have.

    A value without a standard error is taken as exact.
    """
    usable = [point for point in points if point.eligible(objectives)]
    costs = minimised([point.values for point in usable], objectives)
    rows = [[point.errors.get(name, 0.0) for name in objectives] for point in usable]
    errors = np.array(rows, dtype=np.float64).reshape(costs.shape)
    return costs, np.where(np.isfinite(errors), errors, 0.0)
