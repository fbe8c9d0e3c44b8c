"""Whether ``search.scheduler`` can work with the rest of FILE."""

from __future__ import annotations

import math
from collections.abc import Iterable

from hft_ray.config.errors import Problem
from hft_ray.config.keys import searched_values
from hft_ray.config.rules.by_arm import by_arm
from hft_ray.config.schema import Config

UNTRAINED = ("cost/", "selection/")
"""Metrics that the settings decide and not the training: each trial would be the best at some."""


def compared_objectives(objectives: Iterable[str]) -> list[str]:
    """Return the objectives that training decides: those that trials are compared by."""
    return [name for name in objectives if not name.startswith(UNTRAINED)]


def stopping_problems(config: Config) -> list[Problem]:
    """Return what keeps ``search.scheduler`` from comparing trials while they train."""
    if config.search is None or config.search.scheduler.kind == "none":
        return []
    problems = []
    if not compared_objectives(config.search.objectives):
        problem = "asha compares what training decides, and no objective is of that kind"
        problems.append(Problem("search.scheduler", problem, [*config.search.objectives]))
    arms = by_arm(config).values()
    steps = [each for arm in arms for each in searched_values(arm, "training.steps")]
    # Tasks and stages have lengths of their own.
    several = bool(config.tasks or config.stages)
    known = [each for each in steps if each is not None and not several]
    every = config.evaluation.every
    if every is None:
        example = f", for example {max(1, max(known) // 9)}" if known else ""
        problem = f"asha compares trials at their evaluations: set evaluation.every{example}"
        problems.append(Problem("search.scheduler", problem, config.search.scheduler.kind))
    elif known:
        first = math.ceil((config.search.scheduler.min_steps or 1) / every) * every
        if first >= max(known):
            problem = (
                f"the first comparison would be after {first} steps, and no trial has more than "
                f"{max(known)}; lower min_steps or evaluation.every"
            )
            problems.append(Problem("search.scheduler.min_steps", problem))
    return problems
