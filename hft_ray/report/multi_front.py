"""Several fronts on one plane, sweeps of a comparison or arms of a sweep: styles and outlines."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from hft_ray.pareto.comparison import Comparison, Side
from hft_ray.pareto.points import Array
from hft_ray.report import plot_data

_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#aa4499", "#b8860b", "#56b4e9", "#7a4419", "#555555")
"""Told apart with any colour vision, and by the symbols where there are more."""
_SYMBOLS = ("circle", "square", "diamond", "triangle-up", "triangle-down", "pentagon", "hexagon")
_LONGEST_NAME = 40


@dataclass(frozen=True)
class SeriesStyle:
    """How one sweep or arm is drawn; ``name`` is short enough for a legend."""

    name: str
    colour: str
    symbol: str


def series_style(name: str, index: int) -> SeriesStyle:
    """Return how the sweep or arm number ``index`` is drawn."""
    return SeriesStyle(name, _COLOURS[index % len(_COLOURS)], _SYMBOLS[index % len(_SYMBOLS)])


def series_styles(comparison: Comparison) -> list[SeriesStyle]:
    """Return how each sweep is drawn."""
    return [
        series_style(shortened(side.sweep), index) for index, side in enumerate(comparison.sides)
    ]


def shortened(name: str) -> str:
    """Return the name, its middle left out when it is long: beginnings are often the same."""
    if len(name) <= _LONGEST_NAME:
        return name
    half = _LONGEST_NAME // 2
    return f"{name[: half - 1]}…{name[-half:]}"


def bases(comparison: Comparison) -> dict[tuple[float, float], str]:
    """Return where the base models lie, with whose base each is when they differ."""
    found: dict[tuple[float, float], list[str]] = {}
    for side in comparison.sides:
        place = plot_data.base_mark(side.front)
        if place is not None:
            found.setdefault(place, []).append(shortened(side.sweep))
    if len(found) == 1:
        return dict.fromkeys(found, "base model")
    return {place: f"base model of {', '.join(names)}" for place, names in found.items()}


def band(side: Side) -> tuple[list[float], list[float]] | None:
    """Return the outline of what some seeds reached and not all; None without seeds or a plane."""
    if side.anywhere is None or side.everywhere is None or len(side.front.objectives) != 2:
        return None
    outer, inner = list(_corners(side.anywhere)), list(_corners(side.everywhere))
    signs = [-1 if each == "max" else 1 for each in side.front.objectives.values()]
    outline = np.array([*outer, *reversed(inner), outer[0]]) * np.array(signs)
    return outline[:, 0].tolist(), outline[:, 1].tolist()


def _corners(surface: Array) -> Iterator[tuple[float, float]]:
    """Yield the corners of a minimised staircase, by ascending first objective."""
    rows = sorted(map(tuple, surface.tolist()))
    for index, (x, y) in enumerate(rows):
        if index:
            yield x, rows[index - 1][1]
        yield x, y
