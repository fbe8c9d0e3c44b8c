"""Several seeds of one configuration: their mean, its standard error, and whole runs of them."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace

from hft_ray.pareto.points import Point


def grouped(points: Sequence[Point]) -> list[list[Point]]:
    """Return the complete points by configuration, seeds left out; each group in given order.

    Points that name their configuration are grouped by it. Of others, a seed is a setting whose
    last word is ``seed`` (``selection.seed``, ``training.seed``); points with equal seeds are no
    replicates, however equal the rest: each is a group of its own.
    """
    groups: dict[str, dict[str, Point]] = {}
    for index, point in enumerate(points):
        if point.state == "complete":
            configuration, seeds = _parts(point)
            group = groups.setdefault(configuration, {})
            if seeds in group:
                group = groups.setdefault(f"{configuration} {index}", {})
            group[seeds] = point
    return [list(group.values()) for group in groups.values()]


def merged(points: Sequence[Point]) -> list[Point]:
    """Return one point per configuration: the mean over its seeds, with its standard error.

    The variance between seeds is pooled over all configurations that have several, since two or
    three seeds of one say little; a mean of k seeds has the error sqrt(variance / k). Where no
    configuration has several seeds, and for metrics that some seed lacks, points keep what they
    have. Points that are not complete are left out.
    """
    groups = grouped(points)
    spread = _pooled_deviations(groups)
    return [_mean(group, spread) for group in groups]


def averaged(points: Sequence[Point]) -> list[Point]:
    """Return the points of a sweep with seeds, complete ones as one per configuration.

    Each is the mean over its seeds under the name of the first one, with a standard error even if
    it has one seed alone (see :func:`merged`). Points that are not complete follow as they are.
    """
    named = [point for point in points if point.configuration is not None]
    if len(named) < len(points) or not any(len(group) > 1 for group in grouped(points)):
        return list(points)
    return [*merged(points), *(point for point in points if point.state != "complete")]


def runs(points: Sequence[Point]) -> list[list[Point]]:
    """Return the sweep as it would have been with one seed each: run k has every k-th seed.

    Configurations with fewer seeds, which a race has dropped, are missing in later runs. A single
    run when no configuration has several seeds.
    """
    groups = grouped(points)
    most = max(map(len, groups), default=0)
    return [[group[k] for group in groups if k < len(group)] for k in range(most)]


def _parts(point: Point) -> tuple[str, str]:
    """Return the configuration without seeds, and the seeds."""
    if point.configuration is not None:
        return json.dumps([point.variant, point.configuration]), point.trial
    settings = sorted(point.params.items())
    seeds = [(key, value) for key, value in settings if key.rsplit(".", 1)[-1] == "seed"]
    rest = [each for each in settings if each not in seeds]
    return json.dumps([point.variant, rest], default=str), json.dumps(seeds, default=str)


def _shared(group: Sequence[Point]) -> list[str]:
    """Return the metrics that every point of the group has as a finite number."""
    return [name for name in group[0].values if all(point.measured([name]) for point in group)]


def _pooled_deviations(groups: Sequence[Sequence[Point]]) -> dict[str, float]:
    squares: dict[str, float] = {}
    freedom: dict[str, int] = {}
    for group in groups:
        for name in _shared(group) if len(group) > 1 else ():
            values = [point.values[name] for point in group]
            mean = sum(values) / len(values)
            squares[name] = squares.get(name, 0.0) + sum((x - mean) ** 2 for x in values)
            freedom[name] = freedom.get(name, 0) + len(values) - 1
    return {name: math.sqrt(squares[name] / freedom[name]) for name in squares}


def _mean(group: Sequence[Point], spread: dict[str, float]) -> Point:
    first, names = group[0], _shared(group)
    means = {name: sum(p.values[name] for p in group) / len(group) for name in names}
    errors = {name: spread[name] / math.sqrt(len(group)) for name in names if name in spread}
    return replace(first, values={**first.values, **means}, errors={**first.errors, **errors})
