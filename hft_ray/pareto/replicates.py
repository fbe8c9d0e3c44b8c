"""Several seeds of one configuration: their mean, and whole runs of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

from hft_ray.pareto.noise import errors_with_seeds
from hft_ray.pareto.points import Point


def grouped(points: Sequence[Point]) -> list[list[Point]]:
    """Return the complete points by configuration, seeds left out; each group in given order.

    Points that name their configuration are grouped by it. Of others, a seed is a setting whose
    last word is ``seed`` (``selection.seed``, ``training.seed``); points with equal seeds are not
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
    """Return one point per configuration: the mean over its seeds, which it knows.

    The standard error of a mean has two parts, the items that are scored and the seeds (see
    :mod:`hft_ray.pareto.noise`); a configuration with one seed alone has both as well. Where no
    configuration has several seeds, and for metrics that some seed lacks, points keep what they
    have. Points that are not complete are left out.
    """
    means = [mean_of(group) for group in grouped(points)]
    several = [point for point in means if len(point.seeds) > 1]
    known = {name for point in several for name in point.values if _shared(point.seeds, name)}
    for name in sorted(known):
        places = [i for i, point in enumerate(means) if _shared(point.seeds, name)]
        errors = errors_with_seeds([means[place] for place in places], name)
        for place, error in zip(places, errors, strict=True):
            point = means[place]
            means[place] = replace(point, errors={**point.errors, name: error})
    return means


def averaged(points: Sequence[Point]) -> list[Point]:
    """Return the points of a sweep with seeds, complete ones as one per configuration.

    Each is the mean over its seeds under the name of the first one (see :func:`merged`). Points
    that are not complete follow as they are.
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


def mean_of(group: Sequence[Point]) -> Point:
    """Return the mean over the seeds of a configuration, under the name of the first one.

    A metric that some seed lacks is that of the first one. Standard errors are not combined here.
    """
    first = group[0]
    names = [name for name in first.values if _shared(group, name)]
    means = {name: sum(p.values[name] for p in group) / len(group) for name in names}
    return replace(first, values={**first.values, **means}, seeds=tuple(group))


def _shared(group: Sequence[Point], name: str) -> bool:
    """Return whether every point of the group has a finite value of the metric."""
    return all(point.measured([name]) for point in group)
