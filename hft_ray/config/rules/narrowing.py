"""Whether one search space lies within another: a sweep may go on with a narrower one."""

from __future__ import annotations

from collections.abc import Mapping

from hft_ray.config.errors import Problem
from hft_ray.config.sections.space import Choices, Interval

Entry = Interval | Choices


def widening_problems(now: Mapping[str, Entry], before: Mapping[str, Entry]) -> list[Problem]:
    """Return where ``now`` allows what ``before`` did not, or is of another kind."""
    problems = []
    for key in sorted(now.keys() | before.keys()):
        path = f"search.space.{key}"
        if key not in now:
            problem = "was searched when the sweep began; narrow it instead of leaving it out"
            problems.append(Problem(path, problem))
        elif key not in before:
            problem = "was not searched when the sweep began; take another name"
            problems.append(Problem(path, problem))
        elif not _within(now[key], before[key]):
            was = before[key].model_dump(exclude_unset=True)
            problem = f"was {was} when the sweep began; it can only be narrowed"
            problems.append(Problem(path, problem, now[key].model_dump(exclude_unset=True)))
    return problems


def _within(now: Entry, before: Entry) -> bool:
    if now.when != before.when:
        return False
    match now, before:
        case Choices(), Choices():
            return all(contains(before, value) for value in now.choices)
        case Interval(), Interval():
            inside = before.low <= now.low and now.high <= before.high
            return inside and now.log == before.log and _whole(now) == _whole(before)
        case _:
            return False


def _whole(entry: Interval) -> bool:
    return isinstance(entry.low, int) and isinstance(entry.high, int)


def contains(entry: Entry, value: object) -> bool:
    """Whether ``value`` lies in what ``entry`` allows."""
    if isinstance(entry, Choices):
        return any(value == choice and type(value) is type(choice) for choice in entry.choices)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and entry.low <= value <= entry.high  # type: ignore[operator]
