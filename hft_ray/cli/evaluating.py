"""What ``hft-ray evaluate`` does once FILE is read."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch

from hft_ray.cli.logs import terminal, told
from hft_ray.cli.tables import plain_table
from hft_ray.config import Config
from hft_ray.evaluation import Difference, Estimate, Score, forgetting, mean_forgetting
from hft_ray.evaluation.suite import PROGRESS
from hft_ray.training import Workspace
from hft_ray.training.evaluate import Evaluated, evaluate
from hft_ray.training.process_group import local_device, process_group


def run(config: Config, root: Path, model: str, base: str, quiet: bool) -> dict[str, Any] | None:
    """Score ``model`` and print a table; return the JSON of the command, on rank 0 alone.

    Raises:
        ConfigError: FILE, a model or the data of an evaluation is wrong; nothing was scored.
    """
    with process_group() as ranks:
        # As in training: the number of threads decides the order of sums on a CPU.
        torch.set_num_threads(max(1, int(config.cluster.cpus_per_worker)))
        workspace = Workspace(root, ranks, local_device())
        log = root / "logs" / f"evaluate-{ranks.rank}.log"
        with (
            terminal(log, quiet=quiet or not ranks.main) as console,
            told(console, PROGRESS, logging.DEBUG),
        ):
            evaluated = evaluate(config, workspace, model, base)
            console.print(plain_table(f"Scores of {model}", _rows(evaluated)))
            if evaluated.base is not None:
                console.print(f"base: {base}; lost: its score minus the model's, item by item")
    return evaluated.to_json() if ranks.main else None


def _rows(evaluated: Evaluated) -> list[dict[str, str]]:
    lost: dict[str, Difference] = {}
    if evaluated.base is not None:
        lost |= forgetting(evaluated.base, evaluated.scores)
    rows = [
        _row(f"{part}/{name}", score, evaluated, lost.get(name))
        for part, scores in (("task", evaluated.scores.task), ("general", evaluated.scores.general))
        for name, score in scores.items()
    ]
    if len(lost) > 1:
        mean = mean_forgetting(lost)
        empty = dict.fromkeys(rows[0], "")
        rows.append(
            empty | {"evaluation": "mean", "lost": _told(mean), "95 % of lost": _span(mean)}
        )
    return rows


def _row(name: str, score: Score, evaluated: Evaluated, lost: Estimate | None) -> dict[str, str]:
    row = {
        "evaluation": name,
        "metric": score.metric,
        "n": str(score.n),
        "score": _told(score.estimate),
        "95 %": _span(score.estimate),
    }
    if evaluated.base is not None:
        part, _, own = name.partition("/")
        before = evaluated.base.task if part == "task" else evaluated.base.general
        row |= {
            "base": _told(before[own].estimate),
            "lost": "" if lost is None else _told(lost),
            "95 % of lost": "" if lost is None else _span(lost),
        }
    return row


def _told(estimate: Estimate) -> str:
    return f"{estimate.value:.4g} ± {estimate.stderr:.2g}"


def _span(estimate: Estimate) -> str:
    low, high = estimate.interval
    return f"{low:.3g} to {high:.3g}"
