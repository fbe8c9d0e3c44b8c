"""The front as a static picture for documents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from hft_ray.pareto.arm_fronts import arm_fronts
from hft_ray.pareto.front import Front
from hft_ray.report import plot_data
from hft_ray.report.matplotlib_figures import clean_axes, draw_front
from hft_ray.report.multi_front import series_style
from hft_ray.report.plot_data import PlotPoint

_SYMBOLS = {"category": "o", "layer": "s", "model": "D", "other": "^"}
_RATIO = LinearSegmentedColormap.from_list("ratio", plot_data.RATIO_COLOURS)
_SCALE = Normalize(0, 1)


def render_png(front: Front, path: Path | str, form: str = "png") -> None:
    """Write the picture of the front to ``path``: 1,680 x 1,080 pixels, legible at half that.

    ``form`` may be another of matplotlib's formats, such as ``pdf``.
    """
    front = front.averaged
    figure = Figure(figsize=(10.5, 6.75), dpi=160, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    found = plot_data.plot_points(front)
    _frame(axes, front)
    if arms := arm_fronts(front):
        _draw_arms(axes, front, arms)
    else:
        _draw_trials(axes, front, found)
    _references(axes, front, found)
    axes.margins(0.09)
    if arms:
        style: dict[str, Any] = {"fontsize": 10, "labelcolor": plot_data.INK}
        figure.legend(loc="outside right upper", frameon=False, **style)
    else:
        _colour_bar(figure, axes)
        _legend(figure, front, found)
    figure.savefig(path, format=form)


def _frame(axes: Axes, front: Front) -> None:
    x_name, y_name = plot_data.axes(front)
    bold: dict[str, Any] = {"fontsize": 17, "fontweight": "bold", "color": plot_data.INK}
    axes.text(0, 1.11, front.sweep, transform=axes.transAxes, parse_math=False, **bold)
    axes.set_title(
        f"{plot_data.how_to_read(front)}\n{plot_data.summary(front)}",
        loc="left",
        fontsize=11,
        color=plot_data.LINE,
        pad=12,
        parse_math=False,
    )
    axes.set_xlabel(plot_data.direction_text(front, x_name), fontsize=12, color=plot_data.INK)
    axes.set_ylabel(plot_data.direction_text(front, y_name), fontsize=12, color=plot_data.INK)
    clean_axes(axes)


def _draw_trials(axes: Axes, front: Front, found: Sequence[PlotPoint]) -> None:
    """Draw the points by what was trained: colour for the ratio, symbol for the granularity."""
    axes.plot(*plot_data.staircase(front, found), color=plot_data.LINE, linewidth=1.4, zorder=2)
    for mark in found:
        _draw(axes, mark)


def _draw_arms(axes: Axes, front: Front, arms: Mapping[str, Front]) -> None:
    """Draw each arm in its colour and marker, with its own front; the front of all lies below."""
    wide: dict[str, Any] = {"color": plot_data.GRID, "linewidth": 7, "zorder": 1}
    axes.plot(
        *plot_data.staircase(front, plot_data.plot_points(front)), label="front of all", **wide
    )
    for mark in plot_data.plot_points(front):
        if mark.role in ("infeasible", "unfinished"):
            _draw(axes, mark)
    for index, (name, own) in enumerate(arms.items()):
        draw_front(axes, own, series_style(name, index))


def _draw(axes: Axes, mark: PlotPoint) -> None:
    if mark.role == "infeasible":
        axes.scatter(mark.x, mark.y, s=42, marker="x", color=plot_data.FAINT, alpha=0.8, zorder=3)
        return
    full = mark.point.full_fine_tuning
    colour: Any = plot_data.FAINT if mark.ratio is None else _RATIO(_SCALE(mark.ratio))
    face, edge, alpha = plot_data.FULL if full else colour, "white", 0.45
    if mark.role == "front":
        edge, alpha = plot_data.INK, 1.0
    elif mark.role == "unfinished":
        face, edge, alpha = "none", plot_data.FAINT, 0.8
    elif full:
        alpha = 0.9
    axes.errorbar(
        mark.x,
        mark.y,
        xerr=mark.x_error,
        yerr=mark.y_error,
        fmt="none",
        ecolor=plot_data.FAINT,
        elinewidth=0.9,
        alpha=0.9 if mark.role == "front" else 0.35,
        zorder=3,
    )
    axes.scatter(
        mark.x,
        mark.y,
        s=150 if full else 95 if mark.role == "front" else 55,
        marker="P" if full else _SYMBOLS[mark.granularity],
        facecolors=face,
        edgecolors=edge,
        linewidths=1.1,
        alpha=alpha,
        zorder=5 if mark.role == "front" or full else 4,
    )


def _references(axes: Axes, front: Front, found: Sequence[PlotPoint]) -> None:
    above = plot_data.better_is_up(front)
    base = plot_data.base_mark(front)
    if base is not None:
        axes.scatter(*base, s=260, marker="*", color=plot_data.INK, zorder=6)
        _label(axes, base, "base model", plot_data.INK, above=not above)
    full = plot_data.full_label(front, found)
    if full is not None:
        _label(axes, (full.x, full.y), "full fine-tuning", plot_data.FULL, above=not above)
    for mark in found:
        if mark.index == front.knee_index:
            ring: dict[str, Any] = {
                "facecolors": "none",
                "edgecolors": plot_data.KNEE,
                "linewidths": 2.0,
            }
            axes.scatter(mark.x, mark.y, s=330, zorder=7, **ring)
            _label(axes, (mark.x, mark.y), f"knee: {mark.point.label}", plot_data.KNEE, above=above)


def _label(axes: Axes, at: tuple[float, float], text: str, colour: str, *, above: bool) -> None:
    axes.annotate(
        text,
        at,
        xytext=(0, 14 if above else -26),
        textcoords="offset points",
        ha="center",
        fontsize=11,
        fontweight="bold",
        color=colour,
        zorder=8,
        parse_math=False,
        bbox={
            "boxstyle": "round,pad=0.15",
            "facecolor": "white",
            "edgecolor": "none",
            "alpha": 0.8,
        },
    )


def _colour_bar(figure: Figure, axes: Axes) -> None:
    bar = figure.colorbar(ScalarMappable(_SCALE, _RATIO), ax=axes, pad=0.015, aspect=32)
    bar.set_label("trained ratio", fontsize=11, color=plot_data.INK)
    bar.ax.tick_params(labelsize=10, colors=plot_data.INK, length=0)
    bar.outline.set_visible(False)


def _legend(figure: Figure, front: Front, found: Sequence[PlotPoint]) -> None:
    def symbol(marker: str, face: str, edge: str, label: str, size: int = 9) -> Line2D:
        style: dict[str, Any] = {
            "markerfacecolor": face,
            "markeredgecolor": edge,
            "markersize": size,
        }
        return Line2D([], [], linestyle="none", marker=marker, label=label, **style)

    used = {mark.granularity for mark in found if not mark.point.full_fine_tuning}
    entries = [
        symbol(marker, plot_data.FAINT, plot_data.INK, name)
        for name, marker in _SYMBOLS.items()
        if name in used
    ]
    if xs := plot_data.staircase(front, found)[0]:
        entries.insert(0, Line2D(xs[:0], [], color=plot_data.LINE, label="front"))
    if any(mark.role == "dominated" for mark in found):
        entries.append(symbol("o", "#c3cad1", "white", "not on the front (small, pale)", 7))
    if any(mark.role == "infeasible" for mark in found):
        entries.append(symbol("x", plot_data.FAINT, plot_data.FAINT, "outside the constraints", 7))
    if any(mark.role == "unfinished" for mark in found):
        entries.append(symbol("o", "none", plot_data.FAINT, "not complete (hollow)", 7))
    figure.legend(
        handles=entries,
        loc="outside lower left",
        ncols=len(entries) or 1,
        frameon=False,
        fontsize=11,
        labelcolor=plot_data.INK,
    )
