"""Several sweeps side by side: what their fronts are worth, and how certain that is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from hft_ray.pareto.attainment import DIMENSIONS, attained
from hft_ray.pareto.certainty import contenders, measured
from hft_ray.pareto.dominance import minimised
from hft_ray.pareto.front import Front, build_front
from hft_ray.pareto.indicators import epsilon, igd_plus
from hft_ray.pareto.matching import Match, matches
from hft_ray.pareto.noise import joined
from hft_ray.pareto.points import Array, Direction, Point
from hft_ray.pareto.replicates import merged, runs
from hft_ray.pareto.uncertainty import IntervalEstimate, Volumes, hypervolume_estimates


@dataclass(frozen=True)
class Side:
    """One sweep of a comparison.

    Attributes:
        front: Its front under the common reference point; several seeds are one point.
        hypervolume: The hypervolume of the true values, or None when no value has an error.
        probabilities: Point's label -> how probably it is on the true front; of the front's points.
        median: The surface that half of the runs reached, minimised (k, m), when there are several
            seeds; ``everywhere`` what all of them and ``anywhere`` what any of them reached.
    """

    front: Front
    hypervolume: IntervalEstimate | None
    probabilities: dict[str, float]
    everywhere: Array | None = None
    median: Array | None = None
    anywhere: Array | None = None

    @property
    def sweep(self) -> str:
        """Name of the sweep."""
        return self.front.sweep


@dataclass(frozen=True)
class SweepDifference:
    """Sweep ``a`` against sweep ``b``.

    Attributes:
        hypervolume: That of a minus that of b, as measured.
        estimate: The same of the true values, None when one of them is not known.
        epsilon: What a lacks to be nowhere behind b; ``epsilon_back`` what b lacks against a.
        igd_plus: Mean distance by which a is behind b; ``igd_plus_back`` b behind a.
    """

    a: str
    b: str
    hypervolume: float
    estimate: IntervalEstimate | None
    epsilon: float
    epsilon_back: float
    igd_plus: float
    igd_plus_back: float


@dataclass(frozen=True)
class Comparison:
    """Two or more sweeps with the same objectives.

    Attributes:
        reference_point: In each objective the worst of the sweeps' own.
        differences: One per pair.
        matches: One per objective but the first.
        notes: What differs between the sweeps and does not forbid the comparison.
    """

    objectives: dict[str, Direction]
    reference_point: dict[str, float]
    sides: tuple[Side, ...]
    differences: tuple[SweepDifference, ...]
    matches: tuple[Match, ...]
    notes: tuple[str, ...] = ()


def compare(fronts: Sequence[Front], notes: Sequence[str] = ()) -> Comparison:
    """Compare the fronts of two or more sweeps.

    Points of one configuration with several seeds become one first.

    Raises:
        ValueError: The objectives of the sweeps differ.
    """
    objectives = fronts[0].objectives
    if any(front.objectives != objectives for front in fronts):
        raise ValueError("the sweeps have different objectives")
    reference = _common_reference(fronts)
    wholes = [
        build_front(
            *(front.sweep, objectives, merged(front.points), front.base, reference),
            *(front.constraints, front.preference),
        )
        for front in fronts
    ]
    volumes = _volumes(wholes)
    sides = [
        _side(front, whole, None if volumes is None else volumes.of(place))
        for place, (front, whole) in enumerate(zip(fronts, wholes, strict=True))
    ]
    return Comparison(
        objectives=objectives,
        reference_point=reference,
        sides=tuple(sides),
        differences=tuple(
            _difference(sides[a], sides[b], None if volumes is None else volumes.difference(a, b))
            for a, b in combinations(range(len(sides)), 2)
        ),
        matches=tuple(matches([side.front for side in sides])),
        notes=tuple(notes),
    )


def _common_reference(fronts: Sequence[Front]) -> dict[str, float]:
    worst = {"max": min, "min": max}
    return {
        name: worst[direction](front.reference_point[name] for front in fronts)
        for name, direction in fronts[0].objectives.items()
    }


def _volumes(fronts: Sequence[Front]) -> Volumes | None:
    """Return the hypervolumes with their joint error; None when the values of one have none.

    Sweeps that answered the same items are compared item by item.
    """
    objectives = fronts[0].objectives
    costs, noises = [], []
    for front in fronts:
        points = contenders(front.points, objectives)
        values, noise = measured(points, objectives, front.points)
        if not noise.errors.any():
            return None
        costs.append(values)
        noises.append((front.sweep, noise))
    corner = minimised([fronts[0].reference_point], objectives)[0]
    return hypervolume_estimates(costs, joined(noises), corner)


def _side(front: Front, whole: Front, hypervolume: IntervalEstimate | None) -> Side:
    certainty = whole.certainty
    return Side(
        front=whole,
        hypervolume=hypervolume,
        probabilities=certainty.probabilities if certainty else {},
        **_attainment(front, whole.objectives),
    )


def _attainment(front: Front, objectives: dict[str, Direction]) -> dict[str, Array]:
    found = [_costs(run, objectives) for run in runs(front.points)]
    found = [costs for costs in found if len(costs)]
    if len(found) < 2 or len(objectives) not in DIMENSIONS:
        return {}
    shares = {"everywhere": 1.0, "median": 0.5, "anywhere": 1 / len(found)}
    return {name: attained(found, share) for name, share in shares.items()}


def _costs(points: Sequence[Point], objectives: dict[str, Direction]) -> Array:
    return minimised([p.values for p in points if p.eligible(objectives)], objectives)


def _difference(a: Side, b: Side, estimate: IntervalEstimate | None) -> SweepDifference:
    first, second = (
        minimised([p.values for p in s.front.members], s.front.objectives) for s in (a, b)
    )
    return SweepDifference(
        a=a.sweep,
        b=b.sweep,
        hypervolume=a.front.hypervolume - b.front.hypervolume,
        estimate=estimate,
        epsilon=epsilon(first, second),
        epsilon_back=epsilon(second, first),
        igd_plus=igd_plus(first, second),
        igd_plus_back=igd_plus(second, first),
    )
