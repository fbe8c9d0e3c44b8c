"""The content of ``front.json``: the front, how sure it is, and what several seeds tell."""

from __future__ import annotations

import json
from collections import defaultdict
from statistics import NormalDist
from typing import Any

from hft_ray.pareto.certainty import Certainty
from hft_ray.pareto.front import Front
from hft_ray.pareto.points import Point

LEVEL = 0.95


def front_json(front: Front) -> str:
    """Return the content of ``front.json``, with how sure it is.

    ``hypervolume_estimate`` and ``hypervolume_interval`` (95 %) are those of the true values, of
    which the measured ones are noisy; null where nothing is known of the noise. Each point on the
    front has its ``probability`` of being on the true front, and ``knee_probability``.

    A sweep with several seeds has them for each of its ``configurations`` instead: their trials,
    the means of their metrics, standard errors and 95 % intervals of the objectives (of items and
    seeds together), and whether they are on the front.
    """
    content = json.loads(front.to_json())
    sure = front.certainty
    content["hypervolume_estimate"] = None if sure is None else sure.hypervolume.value
    content["hypervolume_interval"] = None if sure is None else sure.hypervolume.interval(LEVEL)
    shown = front.averaged
    if shown is front:
        for record, point in zip(content["points"], front.points, strict=True):
            record |= _chances(point, sure)
    else:
        content["configurations"] = _configurations(front, sure)
    return json.dumps(content, indent=1, allow_nan=False) + "\n"


def _configurations(front: Front, sure: Certainty | None) -> list[dict[str, Any]]:
    trials: dict[tuple[str | None, str | None], list[str]] = defaultdict(list)
    for point in front.points:
        if point.state == "complete":
            trials[point.configuration, point.variant].append(point.trial)
    shown = front.averaged
    return [
        _record(shown, point, on, trials[point.configuration, point.variant], sure)
        for point, on in zip(shown.points, shown.on_front, strict=True)
        if point.state == "complete"
    ]


def _chances(point: Point, sure: Certainty | None) -> dict[str, float | None]:
    return {
        "probability": None if sure is None else sure.probabilities.get(point.label),
        "knee_probability": None if sure is None else sure.knees.get(point.label),
    }


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
        **_chances(point, sure),
    }
