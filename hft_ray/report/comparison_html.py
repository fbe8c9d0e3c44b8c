"""A comparison as one interactive page that loads nothing; escaped as the page of a front is."""

from __future__ import annotations

import functools
from html import escape
from typing import Any

import plotly.graph_objects as go

from hft_ray.pareto.comparison import Comparison, Side
from hft_ray.pareto.points import Point
from hft_ray.report import multi_front, plot_data
from hft_ray.report.html_page import document, text_table
from hft_ray.report.multi_front import SeriesStyle
from hft_ray.report.plotly_figures import apply_style, draw_front, hover, plots_html
from hft_ray.report.rows import difference_rows, distance_rows, match_rows, side_rows

_LONGEST_TITLE = 120
_EXPLAINED = """<p>Hypervolume: what the front encloses with the common reference point, as
measured, and corrected for the bias of noise: the best of many noisy points look better than they
are. The interval (95 % CI) is that of the corrected value. Points that answered the same items are
compared item by item, within a sweep and across sweeps.</p>"""
_INDICATORS = """<p>Epsilon: by how much the sweep's front must improve in every objective to be
nowhere behind the other's. IGD+: the mean distance by which it is behind. Both in the units of the
objectives; at 0 it is nowhere behind.</p>"""


def render_comparison_html(comparison: Comparison) -> str:
    """Return the page: the fronts on one plane, hypervolumes with intervals, and the tables."""
    plots = plots_html([_fronts(comparison), _hypervolumes(comparison)])
    title = ", ".join(side.sweep for side in comparison.sides)
    if len(title) > _LONGEST_TITLE:
        title = f"{len(comparison.sides)} sweeps"
    reference = ", ".join(f"{k} {x:.4g}" for k, x in comparison.reference_point.items())
    lines = [plot_data.how_to_read(comparison.sides[0].front), f"Reference point: {reference}."]
    lines += [f"Note: {note}." for note in comparison.notes]
    heading = f"<h1>{escape(title)}</h1>"
    heading += "".join(f"<p>{escape(line)}</p>" for line in lines)
    cards = [plots[0]]
    cards.append(f"<h2>Hypervolume</h2>{plots[1]}{text_table(side_rows(comparison))}{_EXPLAINED}")
    cards.append(f"<h2>Differences of hypervolume</h2>{text_table(difference_rows(comparison))}")
    cards.append(f"<h2>Between the fronts</h2>{text_table(distance_rows(comparison))}{_INDICATORS}")
    cards += [
        f"<h2>{escape(match.objective)} at the same {escape(match.at)}</h2>"
        f"{text_table(match_rows(comparison, match))}"
        for match in comparison.matches
    ]
    return document(f"{title}: compared", heading, cards)


def _fronts(comparison: Comparison) -> Any:
    figure = go.Figure()
    front = comparison.sides[0].front
    for side, series in zip(comparison.sides, multi_front.series_styles(comparison), strict=True):
        _attained(figure, side, series)
        draw_front(figure, side.front, series, functools.partial(_hover, side))
    for (x, y), name in multi_front.bases(comparison).items():
        figure.add_scatter(
            x=[x],
            y=[y],
            mode="markers",
            marker={"symbol": "star", "size": 17, "color": plot_data.INK},
            name=escape(name),
        )
    apply_style(figure, 600)
    x_name, y_name = plot_data.axes(front)
    figure.update_xaxes(title={"text": escape(plot_data.direction_text(front, x_name))})
    figure.update_yaxes(title={"text": escape(plot_data.direction_text(front, y_name))})
    return figure


def _attained(figure: Any, side: Side, series: SeriesStyle) -> None:
    """Shade what some seeds reached and not all."""
    band = multi_front.band(side)
    if band is not None:
        figure.add_scatter(
            x=band[0],
            y=band[1],
            mode="lines",
            fill="toself",
            fillcolor=series.colour,
            opacity=0.15,
            line={"width": 0},
            hoverinfo="skip",
            name=f"{escape(series.name)}: reached by some seeds",
        )


def _hover(side: Side, point: Point) -> str:
    probability = side.probabilities.get(point.label)
    known = "" if probability is None else f"<br>on the true front: {probability:.0%}"
    return f"<b>{escape(side.sweep)}</b><br>{hover(side.front, point)}{known}"


def _hypervolumes(comparison: Comparison) -> Any:
    """Return one line per sweep: the interval, the estimate, and the measured value hollow."""
    figure = go.Figure()
    for side, series in zip(comparison.sides, multi_front.series_styles(comparison), strict=True):
        name = escape(series.name)
        mark: dict[str, Any] = {"symbol": series.symbol, "size": 12, "color": series.colour}
        if side.hypervolume is not None:
            half = side.hypervolume.interval()[1] - side.hypervolume.value
            figure.add_scatter(
                x=[side.hypervolume.value],
                y=[name],
                error_x={"array": [half], "color": series.colour, "thickness": 2, "width": 6},
                mode="markers",
                marker=mark,
                showlegend=False,
            )
        figure.add_scatter(
            x=[side.front.hypervolume],
            y=[name],
            mode="markers",
            marker={**mark, "symbol": f"{series.symbol}-open"},
            showlegend=False,
        )
    apply_style(figure, 90 + 46 * len(comparison.sides))
    figure.update_layout(margin={"t": 10, "b": 50})
    title = "hypervolume: as measured (hollow), bias-corrected with its 95 % CI (full)"
    figure.update_xaxes(title={"text": title, "font": {"size": 13}})
    figure.update_yaxes(autorange="reversed", type="category")
    return figure
