"""Choosing one point of a sweep by a stated rule: ``--select``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import get_close_matches

from hft_ray.pareto.front import Front, build_front
from hft_ray.pareto.points import Direction, Point

_BOUND = re.compile(r"\s*(?P<metric>[^<>=\s]+)\s*(?P<sign>>=|<=)\s*(?P<limit>[^<>=\s]+)\s*")


class ChoiceError(ValueError):
    """The rule cannot be read, or no point meets it."""


def choose(front: Front, rule: str) -> Point:
    """Return the complete point that ``rule`` chooses.

    Args:
        front: The sweep.
        rule: ``knee``, the front's knee; ``best:METRIC``, the best value of an objective;
            ``trial:ID``, or
            ``trial:ID+VARIANT``; or bounds such as ``task/score>=0.9`` or
            ``task/score>=0.9,cost/device_seconds<=60``: of the points within all bounds, the best
            in the objective that has none, or with several of those their knee. Points outside the
            sweep's limits are chosen by their name alone.

    Raises:
        ChoiceError: The rule is none of these, names an unknown metric, or no point meets it.
    """
    points = _measured(front)
    if not points:
        raise ChoiceError("no trial is complete with every objective measured")
    kind, _, name = rule.partition(":")
    if kind == "trial":
        return _trial(points, name)
    front = front.averaged
    points = _measured(front)
    points = [point for point in points if point.feasible]
    if not points:
        raise ChoiceError("no trial keeps the sweep's constraints; trial:ID chooses one even so")
    if rule == "knee":
        return _knee(front, points, front.objectives)
    if kind == "best":
        if name not in front.objectives:
            known = list(front.objectives)
            raise ChoiceError(
                f"{name!r} is not an objective; the objectives are {', '.join(known)}"
            )
        return _knee(front, points, {name: front.objectives[name]})
    return _bounded(front, points, rule)


def _measured(front: Front) -> list[Point]:
    return [p for p in front.points if p.state == "complete" and p.measured(front.objectives)]


def _knee(front: Front, points: Sequence[Point], objectives: dict[str, Direction]) -> Point:
    """Return the knee in ``objectives`` of those points that no other dominates in all of them."""
    for judged_by in (front.objectives, objectives):
        reference, wanted = front.reference_point, front.preference
        found = build_front(front.sweep, judged_by, points, {}, reference, preference=wanted)
        points = [p for p, on in zip(found.points, found.on_front, strict=True) if on]
    assert found.knee_index is not None
    return found.points[found.knee_index]


def _trial(points: Sequence[Point], name: str) -> Point:
    known = [point.label.replace(" ", "+") for point in points]
    if name not in known:
        close = get_close_matches(name, known, n=1, cutoff=0.5)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise ChoiceError(f"there is no complete trial {name!r}{hint}")
    return points[known.index(name)]


def _bounded(front: Front, points: Sequence[Point], rule: str) -> Point:
    bounded: set[str] = set()
    for part in rule.split(","):
        found = _BOUND.fullmatch(part)
        if found is None:
            raise ChoiceError("must be knee, best:METRIC, trial:ID, METRIC>=X or METRIC<=X")
        name, sign = found["metric"], found["sign"]
        limit = _number(found["limit"])
        points = _within(points, name, sign, limit)
        bounded.add(name)
    free = {k: direction for k, direction in front.objectives.items() if k not in bounded}
    return _knee(front, points, free or front.objectives)


def _within(points: Sequence[Point], name: str, sign: str, limit: float) -> list[Point]:
    measured = [point for point in points if point.measured([name])]
    if not measured:
        known = sorted({metric for point in points for metric in point.values})
        raise ChoiceError(f"{name!r} is not measured; there are {', '.join(known)}")
    values = [point.values[name] for point in measured]
    side = 1 if sign == ">=" else -1
    kept = [p for p, x in zip(measured, values, strict=True) if side * x >= side * limit]
    if not kept:
        nearest = max(measured, key=lambda point: side * point.values[name])
        raise ChoiceError(
            f"no trial has {name} {sign} {limit:g} (with what else is asked); "
            f"the nearest is {nearest.values[name]:.4g} of {nearest.label}"
        )
    return kept


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise ChoiceError(f"{text!r} is not a number") from error
