"""A comparison as a static picture for documents."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from hft_ray.pareto import comparison_picture, picture
from hft_ray.pareto.comparison import Comparison, Side
from hft_ray.pareto.look import Look
from hft_ray.pareto.several_png import MARKERS, draw_front, plain


def render_comparison_png(comparison: Comparison, path: Path | str) -> None:
    """Write the fronts, and below them the hypervolumes with their intervals, to ``path``."""
    count = len(comparison.sides)
    lower = 0.5 + 0.3 * count
    figure = Figure(figsize=(10.5, 6.2 + lower), dpi=160, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    axes, below = figure.subplots(2, 1, height_ratios=[6.2, lower])
    drawn = comparison_picture.looks(comparison)
    for side, look in zip(comparison.sides, drawn, strict=True):
        _front(axes, side, look)
    for (x, y), name in comparison_picture.bases(comparison).items():
        axes.scatter(x, y, s=240, marker="*", color=picture.INK, zorder=6, label=plain(name))
    _frame(axes, comparison)
    _hypervolumes(below, comparison, drawn)
    figure.savefig(path, format="png")


def _front(axes: Axes, side: Side, look: Look) -> None:
    band = comparison_picture.band(side)
    if band is not None:
        axes.fill(*band, color=look.colour, alpha=0.13, linewidth=0)
    draw_front(axes, side.front, look)


def _frame(axes: Axes, comparison: Comparison) -> None:
    front = comparison.sides[0].front
    x_name, y_name = picture.axes(front)
    axes.set_title(
        picture.how_to_read(front), loc="left", fontsize=11, color=picture.LINE, parse_math=False
    )
    axes.set_xlabel(picture.direction_text(front, x_name), fontsize=12, color=picture.INK)
    axes.set_ylabel(picture.direction_text(front, y_name), fontsize=12, color=picture.INK)
    axes.margins(0.06)
    _plain_look(axes)
    axes.legend(frameon=False, fontsize=10, labelcolor=picture.INK)


def _hypervolumes(axes: Axes, comparison: Comparison, drawn: Sequence[Look]) -> None:
    for index, (side, look) in enumerate(zip(comparison.sides, drawn, strict=True)):
        marker, estimate = MARKERS[look.symbol], side.hypervolume
        style: dict[str, Any] = {"marker": marker, "s": 60, "edgecolors": look.colour, "zorder": 4}
        if estimate is not None:
            axes.plot(estimate.interval(), [index, index], color=look.colour, linewidth=2)
            axes.scatter(estimate.value, index, facecolors=look.colour, **style)
        axes.scatter(side.front.hypervolume, index, facecolors="none", **style)
    axes.set_yticks(range(len(drawn)), [plain(look.name) for look in drawn])
    axes.set_ylim(len(drawn) - 0.4, -0.6)
    axes.margins(x=0.06)
    text = "hypervolume: as measured (hollow), without noise with its 95 % interval (full)"
    axes.set_xlabel(text, fontsize=11, color=picture.INK)
    _plain_look(axes)


def _plain_look(axes: Axes) -> None:
    axes.grid(color=picture.GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=10, colors=picture.INK, length=0)
    for side in axes.spines.values():
        side.set_visible(False)
