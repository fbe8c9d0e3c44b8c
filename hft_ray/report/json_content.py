"""The content of ``front.json`` and of ``compare.json``; what is not finite is written as null."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from statistics import NormalDist
from typing import Any

from hft_ray.analysis.forecast_correlation import forecast_correlation
from hft_ray.pareto import ArmTable, Certainty, Comparison, Front, Point, arm_table
from hft_ray.pareto.comparison import Side, SweepDifference
from hft_ray.pareto.matching import Match
from hft_ray.pareto.uncertainty import IntervalEstimate
from hft_ray.report.formatting import estimate_of

LEVEL = 0.95
_POINT_FIELDS = (
    *("trial", "variant", "run_id", "state", "step", "params", "values", "errors"),
    *("feasible", "configuration"),
)
"""Attributes of a point that ``front.json`` holds."""


def front_json(front: Front) -> str:
    """Return the content of ``front.json``: the front, its arms, and how certain it is.

    ``hypervolume_estimate`` and ``hypervolume_interval`` (95 %) are those of the true values, of
    which the measured ones are noisy; null where nothing is known of the noise. Each point on the
    front has its ``probability`` of being on the true front, and ``knee_probability``.

    A sweep with several seeds has them for each of its ``configurations`` instead: their trials,
    the means of their metrics, standard errors and 95 % intervals of the objectives (of items and
    seeds together), and whether they are on the front.
    """
    table, certainty = arm_table(front), front.certainty
    points = [
        _point_record(point, on) for point, on in zip(front.points, front.on_front, strict=True)
    ]
    content: dict[str, Any] = {
        "sweep": front.sweep,
        "objectives": front.objectives,
        "reference_point": front.reference_point,
        "hypervolume": front.hypervolume,
        "knee": front.knee,
        "knee_variant": front.knee_variant,
        "base": _nulls(front.base),
        "arms": [_arm_record(table, *each) for each in enumerate(table.fronts)] if table else [],
        "constraints": [
            {"metric": each.metric, "sign": each.sign, "value": each.limit(front.base)}
            for each in front.constraints
        ],
        "preference": None if front.preference is None else front.preference.model_dump(),
        "forecast": None if (found := forecast_correlation(front)) is None else asdict(found),
        "points": points,
        "hypervolume_estimate": None if certainty is None else certainty.hypervolume.value,
        "hypervolume_interval": None
        if certainty is None
        else certainty.hypervolume.interval(LEVEL),
    }
    if front.averaged is front:
        for record, point in zip(points, front.points, strict=True):
            record |= _chances(point, certainty)
    else:
        content["configurations"] = _configurations(front, certainty)
    return json.dumps(content, indent=1, allow_nan=False, default=str) + "\n"


def comparison_json(comparison: Comparison) -> str:
    """Return the content of ``compare.json``; what is not known is null."""
    content = {
        "objectives": comparison.objectives,
        "reference_point": comparison.reference_point,
        "sweeps": [_side_record(side) for side in comparison.sides],
        "differences": [_difference_record(each) for each in comparison.differences],
        "matched": [_match_record(comparison.sides, each) for each in comparison.matches],
        "notes": list(comparison.notes),
    }
    return json.dumps(content, indent=1, allow_nan=False) + "\n"


def _point_record(point: Point, on_front: bool) -> dict[str, Any]:
    record = {name: getattr(point, name) for name in _POINT_FIELDS}
    record["values"], record["errors"] = _nulls(point.values), _nulls(point.errors)
    return {**record, "arm": point.arm, "on_front": on_front}


def _configurations(front: Front, certainty: Certainty | None) -> list[dict[str, Any]]:
    trials: dict[tuple[str | None, str | None], list[str]] = defaultdict(list)
    for point in front.points:
        if point.state == "complete":
            trials[point.configuration, point.variant].append(point.trial)
    shown = front.averaged
    return [
        _configuration_record(
            shown, point, on, trials[point.configuration, point.variant], certainty
        )
        for point, on in zip(shown.points, shown.on_front, strict=True)
        if point.state == "complete"
    ]


def _chances(point: Point, certainty: Certainty | None) -> dict[str, float | None]:
    return {
        "probability": None if certainty is None else certainty.probabilities.get(point.label),
        "knee_probability": None if certainty is None else certainty.knees.get(point.label),
    }


def _configuration_record(
    front: Front, point: Point, on_front: bool, trials: list[str], certainty: Certainty | None
) -> dict[str, Any]:
    half = NormalDist().inv_cdf(0.5 + LEVEL / 2)
    intervals = {
        name: [point.values[name] - half * error, point.values[name] + half * error]
        for name in front.objectives
        if name in point.values and (error := point.errors.get(name)) is not None
    }
    return {
        "configuration": point.configuration,
        "variant": point.variant,
        "trials": trials,
        "values": _nulls(point.values),
        "errors": _nulls(point.errors),
        "intervals": intervals,
        "feasible": point.feasible,
        "on_front": on_front,
        **_chances(point, certainty),
    }


def _arm_record(table: ArmTable, index: int, front: Front) -> dict[str, Any]:
    cells = [
        {"at": match.at, "level": level, "objective": match.objective}
        | _cell_record(row[index], match.objective)
        | {"difference": _arm_difference(table, match, row, index)}
        for match in table.matches
        for level, row in zip(match.levels, match.cells, strict=True)
    ]
    return {
        "arm": front.sweep,
        "points": len(front.points),
        "front_size": len(front.members),
        "hypervolume": front.hypervolume,
        "matched": cells,
    }


def _arm_difference(
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
    estimate = estimate_of(point, name)
    return {
        "trial": point.trial,
        "variant": point.variant,
        "value": point.values[name],
        "error": estimate.error if estimate else None,
        "interval": list(estimate.interval()) if estimate else None,
    }


def _side_record(side: Side) -> dict[str, Any]:
    return {
        "sweep": side.sweep,
        "hypervolume": side.front.hypervolume,
        **_estimate_record(side.hypervolume),
        "front_size": len(side.front.members),
        "points": len(side.front.points),
        "probabilities": side.probabilities,
    }


def _difference_record(difference: SweepDifference) -> dict[str, Any]:
    return {
        "a": difference.a,
        "b": difference.b,
        "hypervolume": difference.hypervolume,
        **_estimate_record(difference.estimate),
        "epsilon": _finite(difference.epsilon),
        "igd_plus": _finite(difference.igd_plus),
        "epsilon_back": _finite(difference.epsilon_back),
        "igd_plus_back": _finite(difference.igd_plus_back),
    }


def _estimate_record(estimate: IntervalEstimate | None) -> dict[str, Any]:
    if estimate is None:
        return {"estimate": None, "interval": None}
    return {"estimate": estimate.value, "interval": list(estimate.interval())}


def _match_record(sides: Sequence[Side], match: Match) -> dict[str, Any]:
    def cell(point: Point | None) -> dict[str, Any] | None:
        if point is None:
            return None
        return {
            "trial": point.trial,
            "value": point.values[match.objective],
            "error": point.errors.get(match.objective),
        }

    names = [side.sweep for side in sides]
    rows = [
        {"level": level, "sweeps": dict(zip(names, map(cell, cells), strict=True))}
        for level, cells in zip(match.levels, match.cells, strict=True)
    ]
    return {"at": match.at, "objective": match.objective, "rows": rows}


def _nulls(values: Mapping[str, float]) -> dict[str, float | None]:
    return {name: _finite(x) for name, x in values.items()}


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
