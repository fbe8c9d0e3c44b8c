"""A comparison as rows of text, for the terminal and for the page."""

from __future__ import annotations

import math

from hft_ray.pareto.comparison import Comparison, Difference
from hft_ray.pareto.matching import Match
from hft_ray.pareto.table import estimate_text, format_value


def side_rows(comparison: Comparison) -> list[dict[str, str]]:
    """Return one row per sweep: how many points, and the hypervolume with its interval."""
    return [
        {
            "sweep": side.sweep,
            "points": str(len(side.front.points)),
            "front": str(len(side.front.members)),
            "hypervolume": f"{side.front.hypervolume:.4g}",
            "without noise [95 %]": estimate_text(side.hypervolume),
        }
        for side in comparison.sides
    ]


def difference_rows(comparison: Comparison) -> list[dict[str, str]]:
    """Return one row per pair: the difference with its interval, and what it says."""
    return [
        {
            "pair": f"{each.a} − {each.b}",
            "hypervolume": f"{each.hypervolume:+.4g}",
            "without noise [95 %]": estimate_text(each.estimate),
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


def verdict(difference: Difference) -> str:
    """Return which sweep's hypervolume is larger, as far as the interval decides it."""
    if difference.estimate is None:
        return "no errors known"
    low, high = difference.estimate.interval()
    if low > 0:
        return difference.a
    return difference.b if high < 0 else "not decided"


def _number(value: float) -> str:
    return f"{value:.4g}" if math.isfinite(value) else "–"
