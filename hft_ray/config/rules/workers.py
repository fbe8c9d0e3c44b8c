"""Whether the workers of a group can train, and draw, what FILE asks for."""

from __future__ import annotations

from hft_ray.config.errors import Problem
from hft_ray.config.keys import searched_values
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
    if "source" in strategies and config.general_data is None:
        message = (
            "needs general data: set data.replay.train (read by sft alone, its share may be 0), or "
            "with method continual method.replay.data"
        )
        problems.append(Problem("selection.strategy", message, "source"))
    return problems


def _penalty_problems(config: Config) -> list[Problem]:
    """General data that are to be held to the base, where no trial trains on any."""
    shares = ("data.replay.share", "method.replay.general")
    trained = any(any(searched_values(config, key)) for key in shares)
    if "general" in searched_values(config, "training.kl_on") and not trained:
        message = (
            "holds general data to the base, and FILE trains on no general data: set "
            "data.replay.share, or with method continual method.replay.general"
        )
        return [Problem("training.kl_on", message, "general")]
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
