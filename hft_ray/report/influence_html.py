"""Importance and partial dependence of the settings, a section of a front's page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from hft_ray.analysis import Setting
from hft_ray.pareto import Front, Point
from hft_ray.report.formatting import short_names
from hft_ray.report.plot_data import FAINT, INK, KNEE, LINE
from hft_ray.report.plotly_figures import PageSection, apply_style, hover

if TYPE_CHECKING:  # it loads scikit-learn
    from hft_ray.analysis.influence import Curve, Influence

FIRST = ("selection.ratio", "selection.granularity", "selection.reselect")
"""Settings that are shown whatever their importance."""
_MOST_SETTINGS = 8
_COLOURS = ("#31688e", "#d8893b", "#1f9e89", "#8e4585", "#7a7a3a")
_POINTS = {
    "front": {"size": 8, "color": KNEE, "opacity": 0.9},
    "not on the front": {"size": 6, "color": FAINT, "opacity": 0.55},
}


def influence_section(front: Front, found: Sequence[Influence]) -> PageSection | None:
    """Return the section, None when too few trials are complete."""
    if not found:
        return None
    settings = _shown(found)
    explained = "; ".join(f"{escape(i.metric)} {max(0.0, i.explained):.0%}" for i in found)
    html = (
        f"<p>From a Gaussian process regression on {max(i.configurations for i in found)} complete "
        "trials. Above: importance (fANOVA), the share of a metric's variance over the space that "
        "one setting alone accounts for; the rest to 100 % is due to interactions of settings. "
        "Below: partial dependence, the metric expected at a value of a setting, averaged over all "
        "other settings, with two standard deviations, and the trials. Variance that the "
        f"regression explains in cross-validation: {explained}.</p>"
    )
    figures = (_importance(settings, found), _slices(front, settings, found))
    return PageSection("Influence of the settings", figures, html)


def _shown(found: Sequence[Influence]) -> list[Setting]:
    """Return the settings to show, the most important first."""
    known = {key: curve.setting for key, curve in found[0].curves.items()}
    most = {key: max(each.importance[key] for each in found) for key in known}
    order = sorted(known, key=lambda key: (key not in FIRST, -most[key]))[:_MOST_SETTINGS]
    return [known[key] for key in sorted(order, key=lambda key: -most[key])]


def _importance(settings: Sequence[Setting], found: Sequence[Influence]) -> Any:
    names = short_names([setting.key for setting in settings])
    figure = go.Figure()
    for index, each in enumerate(found):
        shares = [each.importance[setting.key] for setting in settings]
        figure.add_bar(
            x=shares,
            y=[escape(names[setting.key]) for setting in settings],
            orientation="h",
            name=escape(each.metric),
            marker={"color": _COLOURS[index % len(_COLOURS)]},
            text=[f"{share:.0%}" for share in shares],
            textposition="outside",
            hoverinfo="skip",
        )
    apply_style(figure, 120 + len(settings) * (18 + 20 * len(found)))
    figure.update_layout(barmode="group", bargap=0.3)
    figure.update_xaxes(range=[0, 1.12], tickformat=".0%", title="share of the variance")
    figure.update_yaxes(autorange="reversed", type="category")
    return figure


def _slices(front: Front, settings: Sequence[Setting], found: Sequence[Influence]) -> Any:
    """Return one row of plots per setting, one column per metric."""
    figure = make_subplots(
        rows=len(settings),
        cols=len(found),
        vertical_spacing=0.3 / max(len(settings), 2),
        horizontal_spacing=0.1,
    )
    names = short_names([setting.key for setting in settings])
    apply_style(figure, 60 + 270 * len(settings))
    wide = 72 // len(found)
    for row, setting in enumerate(settings, start=1):
        for column, influence in enumerate(found, start=1):
            place: dict[str, Any] = {"row": row, "col": column}
            _trials(figure, front, setting, influence.metric, first=row == column == 1, **place)
            _curve(figure, influence.curves[setting.key], first=row == column == 1, **place)
            figure.update_xaxes(title_text=escape(_cut(names[setting.key], wide)), **place)
            figure.update_xaxes(**_axis(setting, wide), **place)
            figure.update_yaxes(title_text=escape(_cut(influence.metric, 24)), **place)
    figure.update_xaxes(title_font_size=13, tickfont_size=12, title_standoff=6)
    figure.update_yaxes(title_font_size=13, tickfont_size=12, title_standoff=6)
    return figure


def _axis(setting: Setting, wide: int) -> dict[str, Any]:
    """Return the axis of a setting's values, ``wide`` characters long."""
    if setting.categorical:
        longest = max(6, wide // len(setting.choices))
        return {
            "tickvals": list(range(len(setting.choices))),
            "ticktext": [escape(_cut(choice, longest)) for choice in setting.choices],
            "range": [-0.5, len(setting.choices) - 0.5],
        }
    return {"type": "log", "exponentformat": "power", "nticks": 6} if setting.log else {}


def _cut(name: str, longest: int) -> str:
    """Return the text, its middle left out when it is long."""
    half = longest // 2
    return name if len(name) <= longest else f"{name[: half - 1]}…{name[-half:]}"


def _trials(
    figure: Any, front: Front, setting: Setting, metric: str, *, first: bool, **place: Any
) -> None:
    pairs = [
        (point, on)
        for point, on in zip(front.points, front.on_front, strict=True)
        if point.state == "complete" and point.measured([metric])
    ]
    for name, on in (("not on the front", False), ("front", True)):
        group = [(p, _x(setting, p)) for p, member in pairs if member is on]
        group = [(point, x) for point, x in group if x is not None]
        figure.add_scatter(
            x=[x for _, x in group],
            y=[point.values[metric] for point, _ in group],
            mode="markers",
            marker=_POINTS[name],
            hovertext=[hover(front, point) for point, _ in group],
            hoverinfo="text",
            name=name,
            legendgroup=name,
            showlegend=first,
            **place,
        )


def _x(setting: Setting, point: Point) -> float | None:
    place = setting.encode(point.params.get(setting.key))
    if not math.isfinite(place):
        return None
    return place if setting.categorical else setting.decode(place)


def _curve(figure: Any, curve: Curve, *, first: bool, **place: Any) -> None:
    setting = curve.setting
    xs = [float(x) if setting.categorical else setting.decode(x) for x in curve.places]
    band, common = (2 * curve.deviation).tolist(), {"legendgroup": "expected", **place}
    if setting.categorical:
        figure.add_scatter(
            x=xs,
            y=curve.mean.tolist(),
            error_y={"array": band, "color": LINE, "thickness": 1.6, "width": 8},
            mode="markers",
            marker={"symbol": "line-ew-open", "size": 22, "color": INK, "line": {"width": 2}},
            name="expected",
            hoverinfo="skip",
            showlegend=first,
            **common,
        )
        return
    figure.add_scatter(
        x=[*xs, *reversed(xs)],
        y=[*(curve.mean + band).tolist(), *reversed((curve.mean - band).tolist())],
        fill="toself",
        fillcolor="rgba(91,107,122,0.15)",
        line={"width": 0},
        mode="lines",
        hoverinfo="skip",
        showlegend=False,
        **common,
    )
    figure.add_scatter(
        x=xs,
        y=curve.mean.tolist(),
        mode="lines",
        line={"color": INK, "width": 2},
        name="expected",
        hoverinfo="skip",
        showlegend=first,
        **common,
    )
