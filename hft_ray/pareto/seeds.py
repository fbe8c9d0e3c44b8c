"""What several seeds tell of a sweep, for ``front.json``."""

from __future__ import annotations

import json
from collections import defaultdict
from statistics import NormalDist
from typing import Any

from hft_ray.pareto.certainty import Certainty, certainty
from hft_ray.pareto.front import Front
from hft_ray.pareto.points import Point

LEVEL = 0.95


def front_json(front: Front) -> str:
    """Return the content of ``front.json``; of a sweep with several seeds with their means.

    ``configurations`` has for each configuration (and variant) its trials, the means of its
    metrics, their standard errors and 95 % intervals of the objectives (normal, the variance pooled
    over all configurations), whether it is on the front, and how probably it is on the front of the
    true values; ``hypervolume_interval`` is a 95 % interval of the hypervolume of those.
    """
    content = json.loads(front.to_json())
    if front.averaged is front:
        return front.to_json()
    sure = certainty(front)
    trials: dict[tuple[str | None, str | None], list[str]] = defaultdict(list)
    for point in front.points:
        if point.state == "complete":
            trials[point.configuration, point.variant].append(point.trial)
    shown = front.averaged
    content["configurations"] = [
        _record(shown, point, on, trials[point.configuration, point.variant], sure)
        for point, on in zip(shown.points, shown.on_front, strict=True)
        if point.state == "complete"
    ]
    interval = None if sure is None else sure.hypervolume.interval(LEVEL)
    content["hypervolume_interval"] = interval
    return json.dumps(content, indent=1, allow_nan=False) + "\n"


def _record(
    front: Front, point: Point, on_front: bool, trials: list[str], sure: Certainty | None
) -> dict[str, Any]:
    half = NormalDist().inv_cdf(0.5 + LEVEL / 2)
    intervals = {
        name: [point.values[name] - half * error, point.values[name] + half * error]
        for name in front.objectives
        if name in point.values and (error := point.errors.get(name)) is not None
    }
    return {
        "configuration": point.configuration,
        "variant": point.variant,
        "trials": trials,
        "values": point.values,
        "errors": point.errors,
        "intervals": intervals,
        "feasible": point.feasible,
        "on_front": on_front,
        "probability": None if sure is None else sure.probabilities.get(point.label),
    }
