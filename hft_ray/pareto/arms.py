"""The arms of a sweep, each with a front of its own: at the same task score, what is forgotten?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from hft_ray.pareto.front import Array, Front, build_front
from hft_ray.pareto.matching import Match, matches, thinned
from hft_ray.pareto.noise import noise_of, seed_covariance
from hft_ray.pareto.points import Direction, Point
from hft_ray.pareto.replicates import merged
from hft_ray.pareto.table import estimate_text, format_value
from hft_ray.pareto.uncertainty import Estimate

_MOST_LEVELS = 4


def arm_fronts(front: Front) -> dict[str, Front]:
    """Return arm -> the front of its points alone; empty for a sweep without arms.

    Trained arms come first, in the order in which trials were dealt to them, then those that are
    made of trained models.
    """
    by_arm: dict[str, list[Point]] = {}
    for point in sorted(front.points, key=lambda point: point.variant is not None):
        if point.arm is not None:
            by_arm.setdefault(point.arm, []).append(point)
    return {name: _front(name, points, front) for name, points in by_arm.items()}


def _front(name: str, points: Sequence[Point], whole: Front) -> Front:
    return build_front(
        name,
        whole.objectives,
        points,
        whole.base,
        whole.reference_point,
        whole.limits,
        whole.preferred,
    )


@dataclass(frozen=True)
class ArmTable:
    """The arms side by side.

    Attributes:
        fronts: Their fronts, several seeds of one configuration as one point.
        matches: One per objective but the first; the levels are the arms' own best values of the
            first, so that each level is one that some arm just reaches.
        points: All points of the sweep, several seeds as one.
    """

    fronts: tuple[Front, ...]
    matches: tuple[Match, ...]
    points: tuple[Point, ...]

    @property
    def baseline(self) -> int:
        """Which arm the others are compared with: full fine-tuning, else the first one."""
        names = [front.sweep for front in self.fronts]
        return names.index("full") if "full" in names else 0

    def difference(self, match: Match, cells: Sequence[Point | None], arm: int) -> Estimate | None:
        """Return what an arm's value at a level is, minus the baseline's there.

        Both points answer the same items: the error is that of the paired difference.

        Args:
            match: The objective that is read.
            cells: The arms' points at the level.
            arm: Which arm.

        Returns:
            The difference in the objective's unit; None for the baseline itself, where one of both
            does not reach the level, and where no error is known.
        """
        here, there = cells[arm], cells[self.baseline]
        if here is None or there is None or arm == self.baseline:
            return None
        read: dict[str, Direction] = {match.objective: "min"}
        noise = noise_of([here, there], read, self._between_seeds[match.objective])
        if not noise.errors.any():
            return None
        apart = here.values[match.objective] - there.values[match.objective]
        return Estimate(apart, float(noise.difference(0, 1)[0]))

    @cached_property
    def _between_seeds(self) -> dict[str, Array | None]:
        """What each matched objective differs by between seeds."""
        found = {}
        for name in (match.objective for match in self.matches):
            known = [point for point in self.points if point.measured([name])]
            found[name] = seed_covariance(known, {name: "min"})
        return found

    def to_json(self) -> list[dict[str, Any]]:
        """Return what front.json holds of each arm."""
        return [self._record(index, front) for index, front in enumerate(self.fronts)]

    def _record(self, index: int, front: Front) -> dict[str, Any]:
        cells = [
            {"at": match.at, "level": level, "objective": match.objective}
            | _cell_record(row[index], match.objective)
            | {"difference": _difference_record(self, match, row, index)}
            for match in self.matches
            for level, row in zip(match.levels, match.cells, strict=True)
        ]
        return {
            "arm": front.sweep,
            "points": len(front.points),
            "front_size": len(front.members),
            "hypervolume": front.hypervolume,
            "matched": cells,
        }


def arm_table(front: Front) -> ArmTable | None:
    """Return the arms of a sweep side by side, None for a sweep without arms."""
    points = merged(front.points)
    of_arms: dict[str, list[Point]] = {name: [] for name in arm_fronts(front)}
    for point in points:
        if point.arm is not None:
            of_arms[point.arm].append(point)
    fronts = [_front(name, own, front) for name, own in of_arms.items()]
    if not fronts:
        return None
    return ArmTable(tuple(fronts), tuple(matches(fronts, _levels(fronts))), tuple(points))


def _levels(fronts: Sequence[Front]) -> list[float]:
    """Return the arms' best values of the first objective, best first."""
    name, direction = next(iter(fronts[0].objectives.items()))
    best = {front.members[0].values[name] for front in fronts if front.members}
    return thinned(sorted(best, reverse=direction == "max"), _MOST_LEVELS)


def arm_rows(
    table: ArmTable,
    match: Match,
    text: Callable[[Point, str], str],
    *,
    differences: bool = False,
) -> list[dict[str, str]]:
    """Return one row per arm: its points, its hypervolume, and its best value at each level.


    Args:
        table: The arms.
        match: The objective that is read.
        text: Says a point's value of a metric.
        differences: Whether to add the difference from the baseline with its 95 % interval.
    """
    sign = "≥" if table.fronts[0].objectives[match.at] == "max" else "≤"
    rows = []
    for index, front in enumerate(table.fronts):
        row = {"arm": front.sweep, "points": str(len(front.points))}
        row["hypervolume"] = f"{front.hypervolume:.4g}"
        for level, cells in zip(match.levels, match.cells, strict=True):
            point = cells[index]
            shown = "not reached" if point is None else text(point, match.objective)
            apart = table.difference(match, cells, index) if differences else None
            if apart is not None:
                low, high = apart.interval()
                shown += f"; {apart.value:+.3g} [{low:+.3g}, {high:+.3g}]"
            row[f"{match.at} {sign} {level:.4g}"] = shown
        rows.append(row)
    return rows


def with_error(point: Point, name: str) -> str:
    """Return ``0.21 ± 0.03``, short enough for a terminal."""
    return format_value(point.values[name], point.errors.get(name))


def with_interval(point: Point, name: str) -> str:
    """Return ``0.21 [0.15, 0.27] (t0007)``, without the interval where no error is known."""
    estimate = _estimate(point, name)
    value = format_value(point.values[name]) if estimate is None else estimate_text(estimate)
    return f"{value} ({point.label})"


def _estimate(point: Point, name: str) -> Estimate | None:
    error = point.errors.get(name)
    return None if error is None else Estimate(point.values[name], error)


def _difference_record(
    table: ArmTable, match: Match, cells: Sequence[Point | None], arm: int
) -> dict[str, Any] | None:
    apart = table.difference(match, cells, arm)
    if apart is None:
        return None
    against = table.fronts[table.baseline].sweep
    return {"against": against, "value": apart.value, "interval": list(apart.interval())}


def _cell_record(point: Point | None, name: str) -> dict[str, Any]:
    if point is None:
        return {"trial": None, "variant": None, "value": None, "error": None, "interval": None}
    estimate = _estimate(point, name)
    return {
        "trial": point.trial,
        "variant": point.variant,
        "value": point.values[name],
        "error": estimate.error if estimate else None,
        "interval": list(estimate.interval()) if estimate else None,
    }
