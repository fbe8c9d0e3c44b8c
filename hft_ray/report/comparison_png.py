"""A comparison as a static picture for documents."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from hft_ray.pareto.comparison import Comparison, Side
from hft_ray.report import multi_front, plot_data
from hft_ray.report.matplotlib_figures import MARKERS, clean_axes, draw_front, plain
from hft_ray.report.multi_front import SeriesStyle


def render_comparison_png(comparison: Comparison, path: Path | str) -> None:
    """Write the fronts, and below them the hypervolumes with their intervals, to ``path``."""
    count = len(comparison.sides)
    lower = 0.5 + 0.3 * count
    figure = Figure(figsize=(10.5, 6.2 + lower), dpi=160, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    axes, below = figure.subplots(2, 1, height_ratios=[6.2, lower])
    drawn = multi_front.series_styles(comparison)
    for side, series in zip(comparison.sides, drawn, strict=True):
        _front(axes, side, series)
    for (x, y), name in multi_front.bases(comparison).items():
        axes.scatter(x, y, s=240, marker="*", color=plot_data.INK, zorder=6, label=plain(name))
    _frame(axes, comparison)
    _hypervolumes(below, comparison, drawn)
    figure.savefig(path, format="png")


def _front(axes: Axes, side: Side, series: SeriesStyle) -> None:
    band = multi_front.band(side)
    if band is not None:
        axes.fill(*band, color=series.colour, alpha=0.13, linewidth=0)
    draw_front(axes, side.front, series)


def _frame(axes: Axes, comparison: Comparison) -> None:
    front = comparison.sides[0].front
    x_name, y_name = plot_data.axes(front)
    axes.set_title(
        plot_data.how_to_read(front),
        loc="left",
        fontsize=11,
        color=plot_data.LINE,
        parse_math=False,
    )
    axes.set_xlabel(plot_data.direction_text(front, x_name), fontsize=12, color=plot_data.INK)
    axes.set_ylabel(plot_data.direction_text(front, y_name), fontsize=12, color=plot_data.INK)
    axes.margins(0.06)
    clean_axes(axes, labelsize=10)
    axes.legend(frameon=False, fontsize=10, labelcolor=plot_data.INK)


def _hypervolumes(axes: Axes, comparison: Comparison, drawn: Sequence[SeriesStyle]) -> None:
    for index, (side, series) in enumerate(zip(comparison.sides, drawn, strict=True)):
        marker, estimate = MARKERS[series.symbol], side.hypervolume
        style: dict[str, Any] = {
            "marker": marker,
            "s": 60,
            "edgecolors": series.colour,
            "zorder": 4,
        }
        if estimate is not None:
            axes.plot(estimate.interval(), [index, index], color=series.colour, linewidth=2)
            axes.scatter(estimate.value, index, facecolors=series.colour, **style)
        axes.scatter(side.front.hypervolume, index, facecolors="none", **style)
    axes.set_yticks(range(len(drawn)), [plain(series.name) for series in drawn])
    axes.set_ylim(len(drawn) - 0.4, -0.6)
    axes.margins(x=0.06)
    text = "hypervolume: as measured (hollow), bias-corrected with its 95 % CI (full)"
    axes.set_xlabel(text, fontsize=11, color=plot_data.INK)
    clean_axes(axes, labelsize=10)
