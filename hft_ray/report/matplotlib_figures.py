"""What every static figure has in common."""

from __future__ import annotations

from typing import Any, Literal

from matplotlib.axes import Axes

from hft_ray.pareto.front import Front
from hft_ray.report import plot_data
from hft_ray.report.multi_front import SeriesStyle

MARKERS = {
    "circle": "o",
    "square": "s",
    "diamond": "D",
    "triangle-up": "^",
    "triangle-down": "v",
    "pentagon": "p",
    "hexagon": "h",
}
"""Symbol of a series style -> marker."""


def draw_front(axes: Axes, front: Front, series: SeriesStyle) -> None:
    """Draw one of several fronts: its line and its complete points, named for the legend."""
    found = plot_data.plot_points(front)
    axes.plot(*plot_data.staircase(front, found), color=series.colour, linewidth=1.4, zorder=2)
    style: dict[str, Any] = {"marker": MARKERS[series.symbol], "color": series.colour}
    for mark in (mark for mark in found if mark.role == "dominated"):
        axes.scatter(mark.x, mark.y, s=28, alpha=0.35, zorder=3, linewidths=0, **style)
    members = [mark for mark in found if mark.role == "front"]
    for mark in members:
        errors: dict[str, Any] = {"xerr": mark.x_error, "yerr": mark.y_error}
        axes.errorbar(mark.x, mark.y, fmt="none", ecolor=series.colour, elinewidth=0.9, **errors)
    xs, ys = [mark.x for mark in members], [mark.y for mark in members]
    axes.scatter(xs, ys, s=70, zorder=5, label=plain(series.name), **style)


def clean_axes(axes: Axes, labelsize: int = 11, grid: Literal["both", "y"] = "both") -> None:
    """Leave of the frame of the axes a pale grid alone."""
    axes.grid(axis=grid, color=plot_data.GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=labelsize, colors=plot_data.INK, length=0)
    for side in axes.spines.values():
        side.set_visible(False)


def plain(name: str) -> str:
    """Return the name as matplotlib shows it unchanged: a dollar sign would begin a formula."""
    return name.replace("$", r"\$")
