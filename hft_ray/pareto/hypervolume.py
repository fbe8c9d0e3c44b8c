"""The hypervolume indicator: the volume between a front and a reference point."""

from __future__ import annotations

import moocore

from hft_ray.pareto.points import Array


def hypervolume(costs: Array, reference: Array) -> float:
    """Return the volume that (n, m) minimised costs dominate up to the (m,) reference.

    A row that is not better than the reference in every objective contributes nothing.
    """
    inside = costs[(costs < reference).all(axis=1)]
    return float(moocore.hypervolume(inside, ref=reference)) if len(inside) else 0.0
