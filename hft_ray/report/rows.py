"""Fronts, arms and comparisons as rows of text, for the terminal and for the page."""

from __future__ import annotations

import math
from collections.abc import Callable

from hft_ray.pareto import ArmTable, Comparison, Front, Point
from hft_ray.pareto.comparison import SweepDifference
from hft_ray.pareto.matching import Match
from hft_ray.report.formatting import (
    estimate_text,
    format_setting,
    format_value,
    short_names,
    value_text,
    varied_params,
)


def front_rows(front: Front) -> list[dict[str, str]]:
    """Return one row per point on the front, best in the first objective first.

    Columns: ``trial`` (with a mark at the knee), the objectives with standard errors, and the
    settings that differ within the sweep, by their short names.
    """
    front = front.averaged
    settings = short_names(varied_params(front.points))
    knee = None if front.knee_index is None else front.points[front.knee_index]
    rows = []
    for point in front.members:
        row = {"trial": f"{point.label} (knee)" if point is knee else point.label}
        row |= {name: value_text(point, name) for name in front.objectives}
        row |= {name: format_setting(point.setting(k)) for k, name in settings.items()}
        rows.append(row)
    return rows


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


def side_rows(comparison: Comparison) -> list[dict[str, str]]:
    """Return one row per sweep: how many points, and the hypervolume with its interval."""
    return [
        {
            "sweep": side.sweep,
            "points": str(len(side.front.points)),
            "front": str(len(side.front.members)),
            "hypervolume": f"{side.front.hypervolume:.4g}",
            "bias-corrected [95 % CI]": estimate_text(side.hypervolume),
        }
        for side in comparison.sides
    ]


def difference_rows(comparison: Comparison) -> list[dict[str, str]]:
    """Return one row per pair: the difference with its interval, and what it says."""
    return [
        {
            "pair": f"{each.a} − {each.b}",
            "hypervolume": f"{each.hypervolume:+.4g}",
            "bias-corrected [95 % CI]": estimate_text(each.estimate),
            "larger": verdict(each),
        }
        for each in comparison.differences
    ]


def distance_rows(comparison: Comparison) -> list[dict[str, str]]:
    """Return two rows per pair: how far either sweep's front is behind the other's."""
    rows = []
    for each in comparison.differences:
        there = (each.a, each.b, each.epsilon, each.igd_plus)
        back = (each.b, each.a, each.epsilon_back, each.igd_plus_back)
        for name, other, epsilon, igd_plus in (there, back):
            numbers = {"epsilon": _number(epsilon), "IGD+": _number(igd_plus)}
            rows.append({"sweep": name, "is behind": other, **numbers})
    return rows


def match_rows(comparison: Comparison, match: Match) -> list[dict[str, str]]:
    """Return one row per level: for each sweep the best value there, and the trial that has it."""
    sign = "≥" if comparison.objectives[match.at] == "max" else "≤"
    rows = []
    for level, cells in zip(match.levels, match.cells, strict=True):
        row = {match.at: f"{sign} {level:.4g}"}
        for side, point in zip(comparison.sides, cells, strict=True):
            if point is None:
                row[side.sweep] = "not reached"
                continue
            value = format_value(point.values[match.objective], point.errors.get(match.objective))
            row[side.sweep] = f"{value} ({point.label})"
        rows.append(row)
    return rows


def verdict(difference: SweepDifference) -> str:
    """Return which sweep's hypervolume is larger, as far as the interval decides it."""
    if difference.estimate is None:
        return "no errors known"
    low, high = difference.estimate.interval()
    if low > 0:
        return difference.a
    return difference.b if high < 0 else "not decided"


def _number(value: float) -> str:
    return f"{value:.4g}" if math.isfinite(value) else "–"
