"""The Pareto front of a sweep: non-dominated set, hypervolume and knee.

Symbols: n points, m objectives. Inside, every objective is minimised: a maximised one changes sign.

    F    (n, m)  objective values of the eligible points, minimised
    r    (m,)    reference point, minimised

A point is eligible when its trial is complete, every objective has a finite value and every
constraint is kept. Points with equal values do not dominate each other: all of them stay on the
front.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from operator import is_not

import numpy as np

from hft_ray.config.sections.constraints import Constraint, Preference
from hft_ray.pareto.certainty import Certainty, certainty_of
from hft_ray.pareto.dominance import minimised, nondominated
from hft_ray.pareto.hypervolume import hypervolume
from hft_ray.pareto.knee import knee
from hft_ray.pareto.points import Array, Direction, Point
from hft_ray.pareto.replicates import averaged, mean_of


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
        constraints: What a point must keep to be on the front.
        preference: Which compromise the knee is, if not the plain one.

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
    constraints: tuple[Constraint, ...] = ()
    preference: Preference | None = None

    @property
    def knee(self) -> str | None:
        """Trial of the knee, None when the front is empty."""
        return None if self.knee_index is None else self.points[self.knee_index].trial

    @property
    def knee_variant(self) -> str | None:
        """Variant of the knee, None where it is the trained model itself."""
        return None if self.knee_index is None else self.points[self.knee_index].variant

    @property
    def size(self) -> int:
        """How many points are on the front, several seeds of one configuration as one."""
        return len({(point.configuration or point.trial, point.variant) for point in self.members})

    @cached_property
    def averaged(self) -> Front:
        """The front of the means over seeds, itself where there are none: what is shown."""
        points = averaged(self.points)
        return self if len(points) == len(self.points) else self._with(points)

    @cached_property
    def certainty(self) -> Certainty | None:
        """How certain the front (of means over seeds) is; None without any standard error."""
        shown = self.averaged
        return certainty_of(
            shown.points,
            [point.label for point in shown.members],
            self.objectives,
            self.reference_point,
            self.preference,
        )

    def _with(self, points: Sequence[Point]) -> Front:
        rules = (self.base, self.reference_point, self.constraints, self.preference)
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


def build_front(
    sweep: str,
    objectives: Mapping[str, Direction],
    points: Sequence[Point],
    base: Mapping[str, float],
    reference_point: Mapping[str, float],
    constraints: Sequence[Constraint] = (),
    preference: Preference | None = None,
) -> Front:
    """Return the front of the points, in the order of their trials; see :class:`FrontBuilder`."""
    rules = (base, reference_point, constraints, preference)
    builder = FrontBuilder(sweep, objectives, *rules)
    for place, point in enumerate(points):
        builder.put(place, [point])
    return builder.front()


class FrontBuilder:
    """Builds a front that grows: the costs of a point are computed once.

    Args:
        sweep: Name of the sweep.
        objectives: Metric -> direction, at least one.
        base: Metric -> score of the untouched model.
        reference_point: Objective -> finite worst value, fixed for the whole sweep.
        constraints: What a point must keep to be on the front.
        preference: Which compromise the knee is to be.

    Raises:
        ValueError: The reference point lacks an objective or is not finite.
    """

    def __init__(
        self,
        sweep: str,
        objectives: Mapping[str, Direction],
        base: Mapping[str, float],
        reference_point: Mapping[str, float],
        constraints: Sequence[Constraint] = (),
        preference: Preference | None = None,
    ) -> None:
        lacking = [k for k in objectives if not math.isfinite(reference_point.get(k, math.nan))]
        if lacking or not objectives:
            raise ValueError(f"the reference point needs a finite value of: {', '.join(lacking)}")
        self._empty = Front(
            sweep=sweep,
            objectives=dict(objectives),
            reference_point={name: float(reference_point[name]) for name in objectives},
            base=dict(base),
            points=(),
            on_front=(),
            hypervolume=0.0,
            knee_index=None,
            constraints=tuple(constraints),
            preference=preference,
        )
        self._points: dict[Hashable, list[Point]] = {}
        self._costs: dict[Hashable, tuple[list[Point], Array | None]] = {}

    def put(self, trial: Hashable, points: Sequence[Point]) -> None:
        """Take the points of a trial, in place of those that it had."""
        self._points[trial] = self._judged(points)

    def front(self) -> Front:
        """Return the front of all points so far."""
        objectives = self._empty.objectives
        units = self._units()
        groups: dict[Hashable, list[Point]] = {}
        for unit, point in units:
            if point.state == "complete":
                groups.setdefault(unit, []).append(point)
        rows = {
            unit: row
            for unit, group in groups.items()
            if (row := self._cost(unit, group)) is not None
        }
        costs = np.array(list(rows.values())).reshape(-1, len(objectives))
        chosen = nondominated(costs)
        members = [unit for unit, on in zip(rows, chosen, strict=True) if on]
        on_front = set(members)
        best = None
        if members:
            best = members[knee(costs[chosen], objectives, self._empty.preference)]
        corner = minimised([self._empty.reference_point], objectives)[0]
        complete = [unit if point.state == "complete" else None for unit, point in units]
        return replace(
            self._empty,
            points=tuple(point for _, point in units),
            on_front=tuple(unit in on_front for unit in complete),
            hypervolume=hypervolume(costs[chosen], corner),
            knee_index=None if best is None else complete.index(best),
        )

    def _units(self) -> list[tuple[Hashable, Point]]:
        """Return every point with what it is a part of: seeds of one configuration are one unit."""
        every = [(trial, points) for trial, points in self._points.items()]
        seeds = all(p.configuration is not None for _, points in every for p in points)
        return [
            ((point.configuration, point.variant) if seeds else (trial, place), point)
            for trial, points in every
            for place, point in enumerate(points)
        ]

    def _cost(self, unit: Hashable, group: list[Point]) -> Array | None:
        """Return the costs (m,) of a unit, None where it cannot be on the front."""
        known, costs = self._costs.get(unit, ([], None))
        if len(known) != len(group) or any(map(is_not, known, group)):
            objectives = self._empty.objectives
            (point,) = self._judged([mean_of(group)]) if len(group) > 1 else group
            eligible = point.eligible(objectives)
            costs = minimised([point.values], objectives)[0] if eligible else None
            self._costs[unit] = group, costs
        return costs

    def _judged(self, points: Sequence[Point]) -> list[Point]:
        """Return the points, each with whether it keeps the constraints; else as they are.

        A metric that was not measured does not keep its constraint.
        """
        front = self._empty
        if not front.constraints:
            return list(points)
        return [
            replace(
                p, feasible=all(x.violation(p.values, front.base) <= 0 for x in front.constraints)
            )
            for p in points
        ]
