"""What every interactive figure has in common."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from hft_ray.pareto import Front, Point
from hft_ray.report import plot_data
from hft_ray.report.formatting import format_setting, value_text
from hft_ray.report.multi_front import SeriesStyle

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif"
AXIS = {"gridcolor": plot_data.GRID, "zeroline": False, "ticks": "", "automargin": True}
_LONGEST_SETTINGS = 24
_CONFIG = {
    "displaylogo": False,
    "responsive": True,
    "modeBarButtons": [["toImage", "zoom2d", "pan2d", "resetScale2d"]],
}


@dataclass(frozen=True)
class PageSection:
    """A part of a front's page: plotly figures under a title, and HTML (escaped) below them."""

    title: str
    figures: tuple[Any, ...]
    html: str


def apply_style(figure: Any, height: int) -> None:
    """Give a figure the project's style."""
    figure.update_layout(
        template="none",
        height=height,
        margin={"l": 60, "r": 20, "t": 50, "b": 60},
        font={"family": FONT, "size": 14, "color": plot_data.INK},
        paper_bgcolor="white",
        plot_bgcolor="white",
        hovermode="closest",
        hoverlabel={"bgcolor": "white", "align": "left", "font": {"size": 13, "family": FONT}},
        legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
    )
    figure.update_xaxes(**AXIS)
    figure.update_yaxes(**AXIS)


def plots_html(figures: Sequence[Any]) -> list[str]:
    """Return each figure's HTML; the first has plotly's script inside, for all of them."""
    return [
        figure.to_html(
            full_html=False,
            include_plotlyjs=index == 0,
            div_id=f"figure-{index}",
            config=_CONFIG,
        )
        for index, figure in enumerate(figures)
    ]


def hover(front: Front, point: Point) -> str:
    """Return what is read over a point: state, values with errors, configuration, run."""
    lines = [f"<b>{escape(point.label)}</b> · {escape(point.state)} · step {point.step}"]
    names = [*front.objectives, *(name for name in point.values if name not in front.objectives)]
    lines += [f"{escape(name)}: <b>{value_text(point, name)}</b>" for name in names]
    if not point.feasible:
        lines.append("outside the constraints")
    settings = sorted(point.params, key=lambda key: not key.startswith("selection."))
    for key in settings[:_LONGEST_SETTINGS]:
        value = format_setting(point.setting(key))
        shown = value if len(value) <= 60 else value[:57] + "..."
        lines.append(f"{escape(key)} = {escape(shown)}")
    if len(settings) > _LONGEST_SETTINGS:
        lines.append(f"... and {len(settings) - _LONGEST_SETTINGS} settings more")
    lines.append(f"run {escape(point.run_id or 'not recorded')}")
    return "<br>".join(lines)


def draw_front(
    figure: Any, front: Front, series: SeriesStyle, hover: Callable[[Point], str]
) -> None:
    """Add one of several fronts: its line and its complete points.

    Args:
        figure: Where to.
        front: The front.
        series: How it is drawn.
        hover: Gives the text that is read over a point.
    """
    _line(figure, front, series)
    found = plot_data.plot_points(front)
    nowhere: Any = [None]  # keeps what has no front in the legend
    for role, size, opacity in (("dominated", 7, 0.35), ("front", 12, 1.0)):
        group = [mark for mark in found if mark.role == role]
        on = role == "front"
        if not group and not on:
            continue
        errors: dict[str, Any] = {"color": series.colour, "thickness": 1, "width": 0}
        figure.add_scatter(
            x=[mark.x for mark in group] or nowhere,
            y=[mark.y for mark in group] or nowhere,
            error_x={**errors, "array": [mark.x_error or 0 for mark in group]} if on else None,
            error_y={**errors, "array": [mark.y_error or 0 for mark in group]} if on else None,
            mode="markers",
            marker={
                "symbol": series.symbol,
                "size": size,
                "color": series.colour,
                "opacity": opacity,
            },
            hovertext=[hover(mark.point) for mark in group],
            hoverinfo="text",
            name=escape(series.name),
            showlegend=on,
        )


def _line(figure: Any, front: Front, series: SeriesStyle) -> None:
    xs, ys = plot_data.staircase(front, plot_data.plot_points(front))
    if xs:
        line = {"color": series.colour, "width": 1.8}
        figure.add_scatter(x=xs, y=ys, mode="lines", line=line, hoverinfo="skip", showlegend=False)
