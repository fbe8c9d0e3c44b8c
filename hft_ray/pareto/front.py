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
    """Builds a front that grows: a new point is compared with the front so far alone.

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
        self._clear()

    def _clear(self) -> None:
        self._flat: list[Point] = []
        self._units: list[Hashable | None] = []
        self._groups: dict[Hashable, list[Point]] = {}
        # The costs of every unit that can be on the front, and those of a superset of the front.
        self._costs: dict[Hashable, Array] = {}
        self._candidates: dict[Hashable, Array] = {}

    def put(self, trial: Hashable, points: Sequence[Point]) -> None:
        """Set the points of a trial; they replace earlier ones."""
        replaces = trial in self._points
        self._points[trial] = self._judged(points)
        if not replaces:
            self._add(trial)
            return
        self._clear()
        for each in self._points:
            self._add(each)

    def _add(self, trial: Hashable) -> None:
        """Add the points of a trial; seeds of one configuration are one unit."""
        for place, point in enumerate(self._points[trial]):
            seeded = point.configuration is not None
            unit = (point.configuration, point.variant) if seeded else (trial, place)
            self._flat.append(point)
            self._units.append(unit if point.state == "complete" else None)
            if point.state == "complete":
                group = self._groups.setdefault(unit, [])
                group.append(point)
                self._set_costs(unit, group)

    def _set_costs(self, unit: Hashable, group: list[Point]) -> None:
        objectives = self._empty.objectives
        (point,) = self._judged([mean_of(group)]) if len(group) > 1 else group
        replaces = unit in self._costs
        if point.eligible(objectives):
            self._costs[unit] = self._candidates[unit] = minimised([point.values], objectives)[0]
        else:
            self._costs.pop(unit, None)
        if replaces:
            # What the earlier costs dominated may be on the front now.
            self._candidates = dict(self._costs)

    def front(self) -> Front:
        """Return the front of all points so far."""
        objectives = self._empty.objectives
        costs = np.array(list(self._candidates.values())).reshape(-1, len(objectives))
        chosen = nondominated(costs)
        kept = zip(self._candidates.items(), chosen, strict=True)
        self._candidates = members = dict(each for each, on in kept if on)
        knee_index = None
        if members:
            best = list(members)[knee(costs[chosen], objectives, self._empty.preference)]
            knee_index = self._units.index(best)
        corner = minimised([self._empty.reference_point], objectives)[0]
        return replace(
            self._empty,
            points=tuple(self._flat),
            on_front=tuple([unit in members for unit in self._units]),
            hypervolume=hypervolume(costs[chosen], corner),
            knee_index=knee_index,
        )

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
