"""Whether the workers of a group can train, and draw, what FILE asks for."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from hft_ray.config.errors import Problem
from hft_ray.config.keys import searched_values, settings
from hft_ray.config.rules.combinations import combinations
from hft_ray.config.schema import Config


def worker_problems(config: Config) -> list[Problem]:
    """Return what the workers cannot train, over every searched value of the settings."""
    return [*_batch_problems(config), *_strategy_problems(config), *_penalty_problems(config)]


def _strategy_problems(config: Config) -> list[Problem]:
    """Gradients of everything are measured on whole parameters, which ZeRO-3 does not have."""
    strategies, problems = searched_values(config, "selection.strategy"), []
    measured = [name for name in ("gradient", "source") if name in strategies]
    if measured and 3 in searched_values(config, "training.zero_stage"):
        message = "needs training.zero_stage 0, 1 or 2; or another strategy"
        problems += [Problem("selection.strategy", message, name) for name in measured]
    if "source" in strategies and config.general_data is None and _drawn(config):
        message = (
            "needs general data: set data.replay.train (read by sft alone, its share may be 0), or "
            "with method continual method.replay.data"
        )
        problems.append(Problem("selection.strategy", message, "source"))
    return problems


def _drawn(config: Config) -> bool:
    """Whether any trial draws: with an adapter, or a ratio of 1, nothing is chosen."""
    ratios = searched_values(config, "selection.ratio")
    return "none" in searched_values(config, "adapter.kind") and any(x != 1 for x in ratios)


def _penalty_problems(config: Config) -> list[Problem]:
    """General data that are to be held to the base, in a trial that trains on none."""
    message = (
        "holds general data to the base, and {} trains on no general data: set data.replay.share, "
        "or with method continual method.replay.general{}"
    )
    shares = ("data.replay.share", "method.replay.general")
    if config.search is None:
        told = message.format("FILE", "")
        tried: Iterable[dict[str, Any]] = [{}]
    else:
        told = message.format("a trial", '; where both are searched, give training.kl_on a "when"')
        tried = combinations(config)
    plain = settings(config)
    for params in tried:
        trial = plain | params
        held = trial["training.kl_to_base"] and trial["training.kl_on"] == "general"
        if held and not any(trial.get(key) for key in shares):
            return [Problem("training.kl_on", told, "general")]
    return []


def _batch_problems(config: Config) -> list[Problem]:
    """Batches that the workers do not divide, over every searched batch and micro-batch size."""
    problems = []
    for batch in searched_values(config, "training.batch_size"):
        for micro in searched_values(config, "training.micro_batch_size"):
            workers = config.cluster.workers
            per_pass = (micro or 1) * workers
            if batch % per_pass:
                passes = f"micro_batch_size {micro} x " if micro else ""
                message = f"must be a multiple of {passes}{workers} workers"
                problems.append(Problem("training.batch_size", message, batch))
    return problems
