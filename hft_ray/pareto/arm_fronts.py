"""The arms of a sweep, each with a front of its own: at the same task score, what is forgotten?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from hft_ray.pareto.front import Front, build_front
from hft_ray.pareto.matching import Match, matches, thinned
from hft_ray.pareto.noise import noise_of, seed_covariance
from hft_ray.pareto.points import Array, Direction, Point
from hft_ray.pareto.replicates import merged
from hft_ray.pareto.uncertainty import IntervalEstimate

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
        whole.constraints,
        whole.preference,
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

    def difference(
        self, match: Match, cells: Sequence[Point | None], arm: int
    ) -> IntervalEstimate | None:
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
        return IntervalEstimate(apart, float(noise.difference(0, 1)[0]))

    @cached_property
    def _between_seeds(self) -> dict[str, Array | None]:
        """What each matched objective differs by between seeds."""
        found = {}
        for name in (match.objective for match in self.matches):
            known = [point for point in self.points if point.measured([name])]
            found[name] = seed_covariance(known, {name: "min"})
        return found


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
