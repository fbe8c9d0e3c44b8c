"""Whether every trial has the metrics that ``search`` names, and objectives a reference point."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from hft_ray.config.errors import Problem, nearest
from hft_ray.config.sections.search import Search

BOUNDED = ("task/", "general/", "forgetting/", "retention/", "continual/")
"""Objectives whose worst value is known, so that the hypervolume has a reference point."""


def objective_problems(
    search: Search, of_trials: Sequence[Collection[str]], mixed: Callable[[str], str | None]
) -> list[Problem]:
    """Return what is wrong with objectives, constraints and reference point.

    Args:
        search: The section.
        of_trials: Names of the metrics of a trial, for each method that a trial may have.
        mixed: Says why a metric is a mean over several units, None if it is not.
    """
    known = [name for name in of_trials[0] if all(name in each for each in of_trials)]
    problems = []
    for name in search.objectives:
        path = f"search.objectives.{name}"
        if message := mixed(name):
            problems.append(Problem(path, message))
        elif name not in known:
            message = _unknown(name, of_trials) + "; known are " + ", ".join(sorted(known))
            problems.append(Problem(path, message + nearest(name, known)))
        elif not name.startswith(BOUNDED) and name not in (search.reference_point or {}):
            message = "has no known worst value: give one in search.reference_point"
            problems.append(Problem(path, message))
    for index, constraint in enumerate(search.bounds):
        path, message = f"search.constraints.{index}", mixed(constraint.metric)
        if message is None and constraint.metric not in known:
            message = _unknown(constraint.metric, of_trials) + nearest(constraint.metric, known)
        if message:
            message = f"{constraint.metric} {message}"
            problems.append(Problem(path, message, str(constraint)))
    for name in search.reference_point or {}:
        if name not in search.objectives:
            problems.append(Problem(f"search.reference_point.{name}", "is not an objective"))
    return problems


def _unknown(metric: str, of_trials: Sequence[Collection[str]]) -> str:
    """Return what is wrong with a metric that some trial, or none, has."""
    if any(metric in each for each in of_trials):
        return "is not produced by every trial: it is a metric of one method, and others are tried"
    return "is produced by no evaluation"
