"""One of several fronts on one interactive plane: sweeps of a comparison, or arms of a sweep."""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from typing import Any

from hft_ray.pareto import picture
from hft_ray.pareto.front import Front
from hft_ray.pareto.look import Look
from hft_ray.pareto.points import Point


def draw_front(figure: Any, front: Front, look: Look, hover: Callable[[Point], str]) -> None:
    """Add a front's line and its complete points; ``hover`` gives what is read over a point."""
    _line(figure, front, look)
    found = picture.marks(front)
    nowhere: Any = [None]  # keeps what has no front in the legend
    for role, size, opacity in (("dominated", 7, 0.35), ("front", 12, 1.0)):
        group = [mark for mark in found if mark.role == role]
        on = role == "front"
        if not group and not on:
            continue
        errors: dict[str, Any] = {"color": look.colour, "thickness": 1, "width": 0}
        figure.add_scatter(
            x=[mark.x for mark in group] or nowhere,
            y=[mark.y for mark in group] or nowhere,
            error_x={**errors, "array": [mark.x_error or 0 for mark in group]} if on else None,
            error_y={**errors, "array": [mark.y_error or 0 for mark in group]} if on else None,
            mode="markers",
            marker={"symbol": look.symbol, "size": size, "color": look.colour, "opacity": opacity},
            hovertext=[hover(mark.point) for mark in group],
            hoverinfo="text",
            name=escape(look.name),
            showlegend=on,
        )


def _line(figure: Any, front: Front, look: Look) -> None:
    xs, ys = picture.staircase(front, picture.marks(front))
    if xs:
        line = {"color": look.colour, "width": 1.8}
        figure.add_scatter(x=xs, y=ys, mode="lines", line=line, hoverinfo="skip", showlegend=False)
