"""What both pictures of a front show, before any drawing library is involved."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from hft_ray.pareto import Front, Point

Role = Literal["front", "dominated", "infeasible", "unfinished"]

INK = "#22303c"
FAINT = "#8a96a3"
GRID = "#e6eaee"
LINE = "#5b6b7a"
FULL = "#c2410c"
KNEE = "#d6336c"
RATIO_COLOURS = ("#3b0f70", "#31688e", "#1f9e89", "#6ece58", "#d8c11f")
"""Equally spaced colours of the trained ratio, from 0 to 1; readable on white."""
GRANULARITIES = ("category", "layer", "model")


@dataclass(frozen=True)
class PlotPoint:
    """One point on the plane of the first two objectives.

    Attributes:
        index: Index of the point among the front's points.
        x: First objective; ``y`` the second, ``x_error`` and ``y_error`` their standard errors.
        ratio: Trained ratio, None when the configuration does not say.
        granularity: Granularity, ``other`` when the configuration does not say.
    """

    index: int
    point: Point
    x: float
    y: float
    x_error: float | None
    y_error: float | None
    role: Role
    ratio: float | None
    granularity: str


def axes(front: Front) -> tuple[str, str]:
    """Return the names of the horizontal and the vertical axis.

    A sweep with one objective is drawn over the trained ratio.
    """
    names = list(front.objectives)
    return (names[0], names[1]) if len(names) > 1 else ("selection.ratio", names[0])


def plot_points(front: Front) -> list[PlotPoint]:
    """Return what is drawn of every point that has both coordinates."""
    x_name, y_name = axes(front)
    found = []
    for index, (point, on_front) in enumerate(zip(front.points, front.on_front, strict=True)):
        x, y = coordinate(point, x_name), coordinate(point, y_name)
        if x is None or y is None:
            continue
        role: Role = "unfinished"
        if point.state == "complete":
            role = "dominated" if point.feasible else "infeasible"
        granularity = point.params.get("selection.granularity")
        found.append(
            PlotPoint(
                index=index,
                point=point,
                x=x,
                y=y,
                x_error=_error(point, x_name),
                y_error=_error(point, y_name),
                role="front" if on_front else role,
                ratio=coordinate(point, "selection.ratio"),
                granularity=granularity if granularity in GRANULARITIES else "other",
            )
        )
    return found


def coordinate(point: Point, name: str) -> float | None:
    """Return a metric (or else a setting) of the point when it is a finite number."""
    value = point.values.get(name, point.params.get(name))
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def _error(point: Point, name: str) -> float | None:
    error = point.errors.get(name)
    return error if error is not None and math.isfinite(error) and error > 0 else None


def base_mark(front: Front) -> tuple[float, float] | None:
    """Return where the untouched model lies, None when a coordinate is not known."""
    x_name, y_name = axes(front)
    x = 0.0 if x_name == "selection.ratio" else front.base_value(x_name)
    y = front.base_value(y_name)
    if x is None or y is None or not (math.isfinite(x) and math.isfinite(y)):
        return None
    return x, y


def full_label(front: Front, found: Sequence[PlotPoint]) -> PlotPoint | None:
    """Return the full fine-tuning that gets the label: the best one in the first objective.

    None where arms have names of their own.
    """
    if any(point.arm is not None for point in front.points):
        return None
    full = [mark for mark in found if mark.point.full_fine_tuning]
    finished = [mark for mark in full if mark.role != "unfinished"] or full
    name, direction = next(iter(front.objectives.items()))
    sign = -1 if direction == "max" else 1
    return min(finished, key=lambda mark: sign * mark.point.values[name], default=None)


def staircase(front: Front, found: Sequence[PlotPoint]) -> tuple[list[float], list[float]]:
    """Return the corners of the line that bounds what the front dominates.

    With two objectives only: with more, the front is not a line on this plane, and the lists are
    empty.
    """
    if len(front.objectives) != 2:
        return [], []
    sign = 1 if front.objectives[axes(front)[0]] == "min" else -1
    members = sorted((m for m in found if m.role == "front"), key=lambda m: sign * m.x)
    xs, ys = [], []
    for index, mark in enumerate(members):
        if index:
            # Between two neighbours the corner is as bad as both: x of the worse, y of the worse.
            xs.append(mark.x)
            ys.append(members[index - 1].y)
        xs.append(mark.x)
        ys.append(mark.y)
    return xs, ys


def better_is_up(front: Front) -> bool:
    """Return whether the better side of the front, free of other points, is above it."""
    return front.objectives[axes(front)[1]] == "max"


def how_to_read(front: Front) -> str:
    """Return one sentence that says which corner is better."""
    x_name, y_name = axes(front)
    if len(front.objectives) == 1:
        return f"Each symbol is one model; {direction_text(front, y_name)}."
    vertical = "top" if better_is_up(front) else "bottom"
    horizontal = "right" if front.objectives[x_name] == "max" else "left"
    sentence = f"Each symbol is one model; better is towards the {vertical} {horizontal}."
    if len(front.objectives) > 2:
        sentence += " The picture shows two of the objectives; the front is chosen by all of them."
    return sentence


def direction_text(front: Front, name: str) -> str:
    """Return ``NAME (higher is better)``, or the name alone if it is not an objective."""
    direction = front.objectives.get(name)
    if direction is None:
        return name
    return f"{name} ({'higher' if direction == 'max' else 'lower'} is better)"


def summary(front: Front) -> str:
    """Return one line: how many trials, how many on the front, hypervolume, knee."""
    states = [point.state for point in front.points]
    complete = states.count("complete")
    parts = [f"{len(states)} points, {complete} complete, {sum(front.on_front)} on the front"]
    parts.append(f"hypervolume {front.hypervolume:.4g}")
    if front.constraints:
        beyond = sum(point.state == "complete" and not point.feasible for point in front.points)
        parts.insert(1, f"{beyond} outside the constraints")
    if front.knee_index is not None:
        parts.append(f"knee {front.points[front.knee_index].label}")
    return " · ".join(parts)
