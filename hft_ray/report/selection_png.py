"""One trial's selection over its rounds: how much was trained, and how far what has moved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from hft_ray.report.matplotlib_figures import clean_axes
from hft_ray.report.plot_data import FAINT, GRID, INK, KNEE, LINE

Rounds = Sequence[Mapping[str, Any]]

_SHARES = (
    ("touched", "layers, ever trained", INK, (0, (3, 3))),
    ("block_parameters", "layers, this round", "#1f6fb4", "-"),
    ("model_parameters", "whole model, this round", "#e08a1e", "-"),
)
_COLOURS = ("#1f6fb4", "#c2410c", "#1f9e89", "#7b3fb3", "#b08a00", KNEE, "#6b8e23", FAINT)
_MARKERS = "os^Dv<>P"
_MOST_MARKED = 24
"""Rounds up to which each has its own line and symbol; of more, only every so many."""


def render_selection(rounds: Rounds, steps: int, title: str, path: Path | str) -> None:
    """Write the picture to ``path``: 1,260 x 900 pixels.

    Args:
        rounds: At least one, as in ``result.json``: ``step`` (the round's first), ``fractions``
            (``block_parameters`` and ``model_parameters``), ``touched_fraction``, and
            ``distances`` (category, and ``all``, -> relative L2 distance from the base when the
            round ended; empty when it was not measured).
        steps: Optimizer steps of the trial.
        title: What the picture is of.
        path: A png file.
    """
    figure = Figure(figsize=(10.5, 7.5), dpi=120, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    shares, distances = figure.subplots(2, 1, sharex=True, height_ratios=(2, 3))
    _head(shares, rounds, steps, title)
    _draw_shares(shares, rounds, steps)
    _draw_distances(distances, rounds, steps)
    for axes in (shares, distances):
        _frame(axes, rounds, steps)
    figure.align_ylabels()
    distances.set_xlabel("optimizer step", fontsize=12, color=INK)
    figure.savefig(path, format="png")


def _head(axes: Axes, rounds: Rounds, steps: int, title: str) -> None:
    bold: dict[str, Any] = {"fontsize": 17, "fontweight": "bold", "color": INK}
    axes.text(0, 1.2, title, transform=axes.transAxes, parse_math=False, **bold)
    count = f"{len(rounds)} rounds" if len(rounds) > 1 else "one round"
    text = f"{count}, {steps} step{'s' if steps != 1 else ''}"
    if len(rounds) > 1:
        text += " · vertical lines: the selection was drawn again"
    style: dict[str, Any] = {"fontsize": 11, "color": LINE}
    axes.set_title(text, loc="left", pad=12, parse_math=False, **style)


def _draw_shares(axes: Axes, rounds: Rounds, steps: int) -> None:
    edges = [*(each["step"] for each in rounds), steps]
    for key, label, colour, style in _SHARES:
        values = [_share(each, key) for each in rounds]
        # An edge more than values: the last value holds until the end.
        label = f"{label}: {values[-1]:.1%}"
        axes.step(
            edges,
            [*values, values[-1]],
            where="post",
            color=colour,
            linestyle=style,
            linewidth=2.2,
            # In the first round it lies on the line of the layers.
            zorder=4 if key == "touched" else 3,
            label=label,
        )
    axes.set_ylim(0, 1.04)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.set_ylabel("share of the parameters\nthat is trained", fontsize=12, color=INK)
    _legend(axes, "at the end")


def _share(each: Mapping[str, Any], key: str) -> float:
    return float(each["touched_fraction"] if key == "touched" else each["fractions"][key])


def _draw_distances(axes: Axes, rounds: Rounds, steps: int) -> None:
    """Draw a line for each category: 0 at the start, then a point at the end of each round."""
    ends = [*(each["step"] for each in rounds[1:]), steps]
    measured = [
        (end, each["distances"])
        for end, each in zip(ends, rounds, strict=True)
        if each["distances"]
    ]
    axes.set_ylabel("relative distance from the base\n(L2, at each round's end)", fontsize=12)
    axes.yaxis.label.set_color(INK)
    if not measured:
        style: dict[str, Any] = {"ha": "center", "color": LINE, "fontsize": 12}
        axes.text(0.5, 0.5, "not measured", transform=axes.transAxes, **style)
        axes.set_yticks([])
        return
    last = measured[-1][1]
    names = sorted((name for name in last if name != "all"), key=lambda name: -last[name])
    gap = max(1, len(measured) // _MOST_MARKED)
    for number, name in enumerate(sorted(names)):
        # By name, not by rank: a category looks the same in every trial.
        look = {"color": _COLOURS[number % 8], "marker": _MARKERS[number % 8], "markersize": 5.5}
        _line(axes, measured, name, zorder=3, linewidth=1.8, markevery=(gap, gap), **look)
    if "all" in last:
        _line(axes, measured, "all", zorder=4, linewidth=3.0, color=INK)
        names.insert(0, "all")
    axes.set_ylim(bottom=0)
    _legend(axes, "at the end", order=names)


def _line(axes: Axes, measured: Sequence[tuple[int, Any]], name: str, **style: Any) -> None:
    xs = [0, *(end for end, _ in measured)]
    ys = [0.0, *(distances.get(name, float("nan")) for _, distances in measured)]
    label = f"{name.replace('_', ' ')}: {ys[-1]:.3g}"
    axes.plot(xs, ys, label=label, gid=name, clip_on=False, **style)


def _frame(axes: Axes, rounds: Rounds, steps: int) -> None:
    many = len(rounds) > _MOST_MARKED
    for each in rounds[1:]:
        axes.axvline(each["step"], color=GRID if many else FAINT, linewidth=0.8, zorder=1)
    clean_axes(axes, grid="y")
    axes.set_xlim(0, steps)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _legend(axes: Axes, title: str, order: Sequence[str] = ()) -> None:
    """Put the legend beside the axes, where it hides nothing."""
    handles = axes.get_legend_handles_labels()[0]
    if order:
        handles.sort(key=lambda handle: order.index(handle.get_gid()))
    legend = axes.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=(1.01, 1.02),
        frameon=False,
        fontsize=11,
        labelcolor=INK,
        title=title,
        alignment="left",
    )
    legend.get_title().set(color=LINE, fontsize=11)
