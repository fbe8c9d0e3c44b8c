"""The front as one interactive page that loads nothing.

Everything that comes from data or configuration is escaped: for HTML in the page, and for plotly,
which reads a subset of HTML in its texts, in the figure. No plotly template (``%{...}``) is used,
so a name cannot refer to one.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import plotly.graph_objects as go

from hft_ray.pareto import Front, Point, arm_fronts
from hft_ray.pareto.dominance import minimised
from hft_ray.report import plot_data
from hft_ray.report.front_page import page
from hft_ray.report.multi_front import series_style
from hft_ray.report.plot_data import PlotPoint
from hft_ray.report.plotly_figures import PageSection, apply_style, draw_front, hover, plots_html

_SYMBOLS = {"category": "circle", "layer": "square", "model": "diamond", "other": "triangle-up"}
_STYLES: dict[str, dict[str, Any]] = {
    "front": {"size": 13, "opacity": 1.0, "line": {"color": plot_data.INK, "width": 1.4}},
    "dominated": {"size": 9, "opacity": 0.5, "line": {"color": "white", "width": 1}},
    "infeasible": {"size": 8, "opacity": 0.8, "line": {"color": plot_data.FAINT, "width": 1.8}},
    "unfinished": {"size": 9, "opacity": 0.8, "line": {"color": plot_data.FAINT, "width": 1.4}},
}


def render_html(
    front: Front, extra: Mapping[str, str] | None = None, sections: Sequence[PageSection] = ()
) -> str:
    """Return the page: the front, its table, further sections, and all points.

    Args:
        front: What is shown.
        extra: Facts for the head of the page, such as the model's name; label -> text.
        sections: What others have to say about the sweep.
    """
    front = front.averaged
    own = [_scatter(front)]
    if len(front.objectives) > 2:
        own.append(_parallel(front))
    plots = plots_html([*own, *(figure for each in sections for figure in each.figures)])
    rest = iter(plots[len(own) :])
    cards = [
        f"<h2>{escape(each.title)}</h2>{''.join(next(rest) for _ in each.figures)}{each.html}"
        for each in sections
    ]
    return page(front, plots[: len(own)], extra or {}, cards)


def _scatter(front: Front) -> Any:
    found = plot_data.plot_points(front)
    arms = arm_fronts(front)
    figure = go.Figure()
    xs, ys = plot_data.staircase(front, found)
    if xs:
        wide = (
            {"color": plot_data.GRID, "width": 9}
            if arms
            else {"color": plot_data.LINE, "width": 1.8}
        )
        figure.add_scatter(x=xs, y=ys, mode="lines", name="front", line=wide, hoverinfo="skip")
    if beyond := [mark for mark in found if mark.role == "infeasible"]:
        figure.add_trace(_points(front, beyond, "x-thin"))
    if arms:
        _draw_arms(figure, front, arms)
    else:
        _draw_trials(figure, front, found)
    _references(figure, front, found)
    _layout(figure, front)
    return figure


def _draw_trials(figure: Any, front: Front, found: Sequence[PlotPoint]) -> None:
    """Draw the points by what was trained: colour for the ratio, symbol for the granularity."""
    for role in ("unfinished", "dominated", "front"):
        plain = [m for m in found if m.role == role and not m.point.full_fine_tuning]
        for granularity in _SYMBOLS:
            group = [mark for mark in plain if mark.granularity == granularity]
            if group:
                figure.add_trace(_points(front, group, _SYMBOLS[granularity]))
    full = [mark for mark in found if mark.point.full_fine_tuning and mark.role != "infeasible"]
    for mark in full:
        cross = {"size": 15, "color": plot_data.FULL, "coloraxis": None, "opacity": 0.95}
        figure.add_trace(_points(front, [mark], "cross", **cross))
    _legend_keys(figure, found)


def _draw_arms(figure: Any, front: Front, arms: Mapping[str, Front]) -> None:
    """Draw each arm in its colour and symbol, with its own front."""
    if cut := [mark for mark in plot_data.plot_points(front) if mark.role == "unfinished"]:
        figure.add_trace(_points(front, cut, "circle"))
    for index, (name, own) in enumerate(arms.items()):
        draw_front(figure, own, series_style(name, index), functools.partial(hover, front))


def _points(front: Front, group: Sequence[PlotPoint], symbol: str, **marker: Any) -> Any:
    role = group[0].role
    hollow = "-open" if role == "unfinished" else ""
    colour: Any = [mark.ratio for mark in group]
    if hollow or any(ratio is None for ratio in colour):
        colour = plot_data.FAINT
    return go.Scatter(
        x=[mark.x for mark in group],
        y=[mark.y for mark in group],
        error_x=_error_bars([mark.x_error for mark in group], role),
        error_y=_error_bars([mark.y_error for mark in group], role),
        mode="markers",
        marker={
            **_STYLES[role],
            "symbol": symbol + hollow,
            "color": colour,
            "coloraxis": None if isinstance(colour, str) else "coloraxis",
            **marker,
        },
        hovertext=[hover(front, mark.point) for mark in group],
        hoverinfo="text",
        showlegend=False,
    )


def _error_bars(errors: Sequence[float | None], role: str) -> dict[str, Any] | None:
    if not any(errors):
        return None
    colour = "rgba(91,107,122,0.75)" if role == "front" else "rgba(138,150,163,0.3)"
    array = [error or 0.0 for error in errors]
    return {"type": "data", "array": array, "color": colour, "thickness": 1.1, "width": 0}


def _legend_keys(figure: Any, found: Sequence[PlotPoint]) -> None:
    """Add the entries of the legend: a symbol in neutral colour for what is on the plot_data."""
    used = {mark.granularity for mark in found if not mark.point.full_fine_tuning}
    keys = [(name, symbol, "front") for name, symbol in _SYMBOLS.items() if name in used]
    if any(mark.role == "dominated" for mark in found):
        keys.append(("not on the front", "circle", "dominated"))
    if any(mark.role == "infeasible" for mark in found):
        keys.append(("outside the constraints", "x-thin", "infeasible"))
    if any(mark.role == "unfinished" for mark in found):
        keys.append(("not complete", "circle-open", "unfinished"))
    for name, symbol, role in keys:
        marker = {**_STYLES[role], "symbol": symbol, "color": plot_data.FAINT}
        figure.add_scatter(x=[None], y=[None], mode="markers", name=name, marker=marker)


def _references(figure: Any, front: Front, found: Sequence[PlotPoint]) -> None:
    above = plot_data.better_is_up(front)
    labelled = plot_data.full_label(front, found)
    if labelled is not None:
        _label(figure, labelled.x, labelled.y, "full fine-tuning", plot_data.FULL, above=not above)
    base = plot_data.base_mark(front)
    if base is not None:
        figure.add_scatter(
            x=[base[0]],
            y=[base[1]],
            mode="markers",
            marker={"symbol": "star", "size": 19, "color": plot_data.INK},
            hovertext=[_base_hover(front)],
            hoverinfo="text",
            showlegend=False,
        )
        _label(figure, *base, "base model", plot_data.INK, above=not above)
    for mark in found:
        if mark.index == front.knee_index:
            ring = {
                "symbol": "circle-open",
                "size": 27,
                "color": plot_data.KNEE,
                "line": {"width": 2},
            }
            figure.add_scatter(
                x=[mark.x],
                y=[mark.y],
                mode="markers",
                marker=ring,
                hoverinfo="skip",
                showlegend=False,
            )
            text = f"knee: {escape(mark.point.label)}"
            _label(figure, mark.x, mark.y, text, plot_data.KNEE, above=above)


def _base_hover(front: Front) -> str:
    lines = [f"{escape(name)}: <b>{value:.4g}</b>" for name, value in front.base.items()]
    return "<br>".join(["<b>base model</b>, before any training", *lines])


def _label(figure: Any, x: float, y: float, text: str, colour: str, *, above: bool) -> None:
    figure.add_annotation(
        x=x,
        y=y,
        text=f"<b>{text}</b>",
        showarrow=False,
        yshift=24 if above else -24,
        font={"color": colour, "size": 13},
        bgcolor="rgba(255,255,255,0.8)",
    )


def _layout(figure: Any, front: Front) -> None:
    x_name, y_name = plot_data.axes(front)
    steps = len(plot_data.RATIO_COLOURS) - 1
    apply_style(figure, 600)
    figure.update_xaxes(title={"text": escape(plot_data.direction_text(front, x_name))})
    figure.update_yaxes(title={"text": escape(plot_data.direction_text(front, y_name))})
    figure.update_layout(
        coloraxis={
            "cmin": 0,
            "cmax": 1,
            "colorscale": [[i / steps, c] for i, c in enumerate(plot_data.RATIO_COLOURS)],
            "colorbar": {"title": {"text": "trained ratio"}, "thickness": 14, "outlinewidth": 0},
        },
    )


def _parallel(front: Front) -> Any:
    """Return parallel coordinates: one line per complete point, each axis from worst to best.

    Lines of an ordinary plot, not plotly's own parallel coordinates: those need WebGL, which a
    sandboxed frame or a headless browser may not have.
    """
    shown = [
        (point, on)
        for point, on in zip(front.points, front.on_front, strict=True)
        if point.state == "complete" and point.measured(front.objectives)
    ]
    names = list(front.objectives)
    figure = go.Figure()
    if shown:
        costs = minimised([point.values for point, _ in shown], front.objectives)
        low, high = costs.min(axis=0), costs.max(axis=0)
        span = [width if width > 0 else 1.0 for width in high - low]
        heights = 1 - (costs - low) / span
        for (point, on), row in sorted(
            zip(shown, heights.tolist(), strict=True), key=lambda item: item[0][1]
        ):
            figure.add_scatter(
                x=list(range(len(names))),
                y=row,
                mode="lines+markers",
                line={"color": plot_data.KNEE if _is_knee(front, point) else plot_data.LINE},
                opacity=1.0 if on else 0.15,
                hovertext=[hover(front, point)] * len(names),
                hoverinfo="text",
                showlegend=False,
            )
    _layout(figure, front)
    figure.update_layout(height=380, hovermode="closest", margin={"t": 20})
    figure.update_xaxes(
        title=None,
        tickvals=list(range(len(names))),
        ticktext=[_lines(plot_data.direction_text(front, name)) for name in names],
        range=[-0.4, len(names) - 0.6],
    )
    figure.update_yaxes(title=None, tickvals=[0, 1], ticktext=["worst", "best"])
    return figure


def _lines(text: str) -> str:
    """Return the text of a tick over two lines: plotly leaves out ticks that overlap."""
    name, _, direction = text.partition(" (")
    shown = name if len(name) <= 24 else f"{name[:11]}…{name[-12:]}"
    return f"{escape(shown)}<br>({escape(direction)}"


def _is_knee(front: Front, point: Point) -> bool:
    return front.knee_index is not None and front.points[front.knee_index] is point
