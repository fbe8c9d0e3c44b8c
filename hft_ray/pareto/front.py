"""The Pareto front of a sweep: non-dominated set, hypervolume and knee.

Symbols: n points, m objectives. Inside, every objective is minimised: a maximised one changes sign.

    F    (n, m)  objective values of the eligible points, minimised
    r    (m,)    reference point, minimised

A point is eligible when its trial is complete, every objective has a finite value and every limit
is kept. Points with equal values do not dominate each other: all of them stay on the front.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import moocore
import numpy as np
from numpy.typing import NDArray

from hft_ray.pareto.points import Direction, Point
from hft_ray.pareto.replicates import averaged
from hft_ray.pareto.rules import Array, Limit, Preferred, judged, knee

if TYPE_CHECKING:
    from hft_ray.pareto.certainty import Certainty

_WRITTEN = (
    *("trial", "variant", "run_id", "state", "step", "params", "values", "errors"),
    *("feasible", "configuration"),
)
"""Attributes of a point that ``front.json`` holds."""

__all__ = ["Array", "Front", "build_front", "hypervolume", "minimised", "nondominated"]


@dataclass(frozen=True)
class Front:
    """Every point of a sweep, which of them are on the front, and what follows from it.

    Attributes:
        sweep: Name of the sweep.
        objectives: Metric -> direction; the first two are the axes of the pictures.
        reference_point: Objective -> the worst value that counts for the hypervolume.
        base: Metric -> score of the untouched model.
        points: All points, also those that are not eligible.
        on_front: For each point whether it is on the front.
        hypervolume: Volume between front and reference point, in the product of the units.
        knee_index: Index of the knee among the points, None when the front is empty.
        limits: What a point must keep to be on the front.
        preferred: Which compromise the knee is, if not the plain one.

    In a sweep with several seeds, front, hypervolume and knee are those of the configurations'
    means (:attr:`averaged`): a point is on the front when its configuration is.
    """

    sweep: str
    objectives: dict[str, Direction]
    reference_point: dict[str, float]
    base: dict[str, float]
    points: tuple[Point, ...]
    on_front: tuple[bool, ...]
    hypervolume: float
    knee_index: int | None
    limits: tuple[Limit, ...] = ()
    preferred: Preferred | None = None

    @property
    def knee(self) -> str | None:
        """Trial of the knee, None when the front is empty."""
        return None if self.knee_index is None else self.points[self.knee_index].trial

    @property
    def knee_variant(self) -> str | None:
        """Variant of the knee, None where it is the trained model itself."""
        return None if self.knee_index is None else self.points[self.knee_index].variant

    @cached_property
    def averaged(self) -> Front:
        """The front of the means over seeds, itself where there are none: what is shown."""
        points = averaged(self.points)
        return self if len(points) == len(self.points) else self._with(points)

    @cached_property
    def certainty(self) -> Certainty | None:
        """How sure the front (of means over seeds) is; None without any standard error."""
        from hft_ray.pareto.certainty import certainty_of  # it is made of fronts

        return certainty_of(self.averaged)

    def _with(self, points: Sequence[Point]) -> Front:
        rules = (self.base, self.reference_point, self.limits, self.preferred)
        return build_front(self.sweep, self.objectives, points, *rules)

    @cached_property
    def members(self) -> list[Point]:
        """The points on the front, best in the first objective first."""
        name, direction = next(iter(self.objectives.items()))
        chosen = [point for point, on in zip(self.points, self.on_front, strict=True) if on]
        return sorted(chosen, key=lambda p: p.values[name], reverse=direction == "max")

    def base_value(self, name: str) -> float | None:
        """Return the base model's value of a metric; it has forgotten 0 by definition."""
        return self.base.get(name, 0.0 if name.startswith("forgetting/") else None)

    def to_json(self) -> str:
        """Return the content of ``front.json``; a value that is not finite is written as null."""
        from hft_ray.pareto.arms import arm_table  # an arm has a front itself

        table = arm_table(self)
        points = []
        for point, on_front in zip(self.points, self.on_front, strict=True):
            record = {name: getattr(point, name) for name in _WRITTEN}
            record["values"], record["errors"] = _nulls(point.values), _nulls(point.errors)
            points.append({**record, "arm": point.arm, "on_front": on_front})
        content = {
            "sweep": self.sweep,
            "objectives": self.objectives,
            "reference_point": self.reference_point,
            "hypervolume": self.hypervolume,
            "knee": self.knee,
            "knee_variant": self.knee_variant,
            "base": _nulls(self.base),
            "arms": table.to_json() if table else [],
            "constraints": [asdict(limit) for limit in self.limits],
            "preference": None if self.preferred is None else asdict(self.preferred),
            "points": points,
        }
        return json.dumps(content, indent=1, allow_nan=False, default=str) + "\n"


def build_front(
    sweep: str,
    objectives: Mapping[str, Direction],
    points: Sequence[Point],
    base: Mapping[str, float],
    reference_point: Mapping[str, float],
    limits: Sequence[Limit] = (),
    preferred: Preferred | None = None,
) -> Front:
    """Return the front of the points.

    Args:
        sweep: Name of the sweep.
        objectives: Metric -> direction, at least one.
        points: Points in the order of their trials.
        base: Metric -> score of the untouched model.
        reference_point: Objective -> finite worst value, fixed for the whole sweep.
        limits: What a point must keep to be on the front.
        preferred: Which compromise the knee is to be.

    Raises:
        ValueError: The reference point lacks an objective or is not finite.
    """
    lacking = [k for k in objectives if not math.isfinite(reference_point.get(k, math.nan))]
    if lacking or not objectives:
        raise ValueError(f"the reference point needs a finite value of: {', '.join(lacking)}")
    points = judged(points, limits)
    means = judged(averaged(points), limits)
    if len(means) < len(points):
        rules = (base, reference_point, limits, preferred)
        return _of_seeds(points, build_front(sweep, objectives, means, *rules))
    eligible = [i for i, point in enumerate(points) if point.eligible(objectives)]
    costs = minimised([points[i].values for i in eligible], objectives)
    chosen = nondominated(costs)
    front = [index for index, on in zip(eligible, chosen, strict=True) if on]
    members = set(front)
    return Front(
        sweep=sweep,
        objectives=dict(objectives),
        reference_point={name: float(reference_point[name]) for name in objectives},
        base=dict(base),
        points=tuple(points),
        on_front=tuple(index in members for index in range(len(points))),
        hypervolume=hypervolume(costs[chosen], minimised([reference_point], objectives)[0]),
        knee_index=front[knee(costs[chosen], objectives, preferred)] if front else None,
        limits=tuple(limits),
        preferred=preferred,
    )


def _of_seeds(points: Sequence[Point], shown: Front) -> Front:
    """Return the front of points whose means over seeds have the front ``shown``."""
    members = {(point.configuration, point.variant) for point in shown.members}
    places = {(point.trial, point.variant): place for place, point in enumerate(points)}
    knee_index = None
    if shown.knee_index is not None:
        best = shown.points[shown.knee_index]
        knee_index = places[best.trial, best.variant]
    return replace(
        shown,
        points=tuple(points),
        on_front=tuple(
            p.state == "complete" and (p.configuration, p.variant) in members for p in points
        ),
        knee_index=knee_index,
    )


def minimised(values: Sequence[Mapping[str, float]], objectives: Mapping[str, Direction]) -> Array:
    """Return the objectives of ``values`` as an (n, m) array in which less is better."""
    signs = [-1.0 if direction == "max" else 1.0 for direction in objectives.values()]
    table = [[float(each[name]) for name in objectives] for each in values]
    return np.array(table, dtype=np.float64).reshape(-1, len(objectives)) * np.array(signs)


def nondominated(costs: Array) -> NDArray[np.bool_]:
    """Return for each row of an (n, m) array whether no other row dominates it; equal rows stay."""
    if not len(costs):
        return np.zeros(0, dtype=bool)
    return np.asarray(moocore.is_nondominated(costs, keep_weakly=True), dtype=bool)


def hypervolume(costs: Array, reference: Array) -> float:
    """Return the volume that (n, m) costs dominate up to the (m,) reference.

    A row that is not better than the reference in every objective contributes nothing.
    """
    inside = costs[(costs < reference).all(axis=1)]
    return float(moocore.hypervolume(inside, ref=reference)) if len(inside) else 0.0


def _nulls(values: Mapping[str, float]) -> dict[str, Any]:
    return {name: x if math.isfinite(x) else None for name, x in values.items()}
