"""One of several fronts on one static plane: sweeps of a comparison, or arms of a sweep."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes

from hft_ray.pareto import picture
from hft_ray.pareto.front import Front
from hft_ray.pareto.look import Look

MARKERS = {
    "circle": "o",
    "square": "s",
    "diamond": "D",
    "triangle-up": "^",
    "triangle-down": "v",
    "pentagon": "p",
    "hexagon": "h",
}
"""Symbol of a look -> marker."""


def draw_front(axes: Axes, front: Front, look: Look) -> None:
    """Draw a front's line and its complete points, named for the legend."""
    found = picture.marks(front)
    axes.plot(*picture.staircase(front, found), color=look.colour, linewidth=1.4, zorder=2)
    style: dict[str, Any] = {"marker": MARKERS[look.symbol], "color": look.colour}
    for mark in (mark for mark in found if mark.role == "dominated"):
        axes.scatter(mark.x, mark.y, s=28, alpha=0.35, zorder=3, linewidths=0, **style)
    members = [mark for mark in found if mark.role == "front"]
    for mark in members:
        errors: dict[str, Any] = {"xerr": mark.x_error, "yerr": mark.y_error}
        axes.errorbar(mark.x, mark.y, fmt="none", ecolor=look.colour, elinewidth=0.9, **errors)
    xs, ys = [mark.x for mark in members], [mark.y for mark in members]
    axes.scatter(xs, ys, s=70, zorder=5, label=plain(look.name), **style)


def plain(name: str) -> str:
    """Return the name as matplotlib shows it unchanged: a dollar sign would begin a formula."""
    return name.replace("$", r"\$")
