"""The scores of a sequence of tasks after each of them: a table, and a picture of it."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from hft_ray.report.plot_data import INK

_LONGEST = 16
"""Characters of a name beside the plot_data."""


def sequence_csv(sequence: Mapping[str, Any]) -> str:
    """Return the rows as CSV: what was trained last, the step, then R and G.

    Args:
        sequence: As ``continual`` of ``result.json``: ``tasks`` and ``general``, names of columns,
            and ``rows`` with ``step``, ``tasks`` and ``general``, the base's first.
    """
    lines = io.StringIO()
    writer = csv.writer(lines, lineterminator="\n")
    general = [f"general/{name}" for name in sequence["general"]]
    writer.writerow(["after", "step", *(f"task/{name}" for name in sequence["tasks"]), *general])
    for after, row in zip(["base", *sequence["tasks"]], sequence["rows"], strict=False):
        writer.writerow([after, row["step"], *row["tasks"], *row["general"]])
    return lines.getvalue()


def render_sequence(sequence: Mapping[str, Any], title: str, path: Path | str) -> None:
    """Write the picture to ``path``: a row for the base and after each task, a column each.

    Args:
        sequence: See :func:`sequence_csv`.
        title: What the picture is of.
        path: A png file.
    """
    names = [*sequence["tasks"], *sequence["general"]]
    rows = sequence["rows"]
    values = np.array([[*row["tasks"], *row["general"]] for row in rows], dtype=np.float64)
    figure = Figure(figsize=(2.6 + 1.1 * len(names), 1.9 + 0.5 * len(rows)), dpi=120)
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.imshow(_scaled(values), cmap="Blues", vmin=0, vmax=1.4, aspect="auto")
    _labels(axes, names, ["base", *sequence["tasks"]][: len(rows)], len(sequence["tasks"]))
    for (row, column), value in np.ndenumerate(values):
        axes.text(column, row, f"{value:.3g}", ha="center", va="center", color=INK)
    axes.set_title(title, color=INK, fontsize=11)
    figure.tight_layout()
    figure.savefig(path)


def _scaled(values: np.ndarray) -> np.ndarray:
    """Return every column from its worst value, 0, to its best, 1: units differ."""
    low = np.nanmin(values, axis=0)
    span = np.nanmax(values, axis=0) - low
    return (values - low) / np.where(span > 0, span, 1.0)


def _labels(axes: Axes, names: list[str], after: list[str], tasks: int) -> None:
    axes.set_xticks(range(len(names)), [_short(name) for name in names], rotation=30, ha="right")
    axes.set_yticks(range(len(after)), [_short(name) for name in after])
    axes.set_ylabel("after", color=INK)
    axes.axvline(tasks - 0.5, color=INK, linewidth=1)  # tasks on the left, general on the right
    axes.tick_params(length=0, labelsize=9)


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST else name[: _LONGEST - 1] + "…"
