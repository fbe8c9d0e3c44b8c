"""The work of ``hft-ray evaluate`` after FILE is read."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch

from hft_ray.cli.logs import shown, terminal
from hft_ray.cli.tables import plain_table
from hft_ray.config import Config
from hft_ray.evaluation import Estimate, Score, metric_estimates
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
            shown(console, PROGRESS, logging.DEBUG),
        ):
            evaluated = evaluate(config, workspace, model, base)
            console.print(plain_table(f"Scores of {model}", _rows(evaluated)))
            if evaluated.base is not None:
                console.print(
                    f"base: {base}; lost: the base's score minus the model's, item by item; "
                    "kept: the share of the base's score beyond a guess"
                )
    return evaluated.to_json() if ranks.main else None


COMPARED = {"forgetting": "lost", "retention": "kept"}
"""Metrics of a general evaluation against the base, and their columns."""


def _rows(evaluated: Evaluated) -> list[dict[str, str]]:
    scores, base = evaluated.scores, evaluated.base
    found = metric_estimates(scores, base)
    rows = []
    for part, own in (("task", scores.task), ("general", scores.general)):
        for name, score in own.items():
            row = _row(f"{part}/{name}", score)
            if base is not None:
                before = (base.task if part == "task" else base.general)[name]
                row |= {"base": _with_error(before.estimate), **_against_base(found, name)}
            rows.append(row)
    if base is not None and len(scores.general) > 1:
        empty = dict.fromkeys(rows[0], "")
        rows.append(empty | {"evaluation": "mean", **_against_base(found, "mean")})
    return rows


def _row(name: str, score: Score) -> dict[str, str]:
    return {
        "evaluation": name,
        "metric": score.metric,
        "n": str(score.n),
        "score": _with_error(score.estimate),
        "95 %": _interval(score.estimate),
    }


def _against_base(found: dict[str, Estimate], name: str) -> dict[str, str]:
    """Return the columns of an evaluation, empty where it is not compared with the base."""
    row: dict[str, str] = {}
    for metric, column in COMPARED.items():
        each = found.get(f"{metric}/{name}")
        row[column] = "" if each is None else _with_error(each)
        row[f"95 % of {column}"] = "" if each is None else _interval(each)
    return row


def _with_error(estimate: Estimate) -> str:
    return f"{estimate.value:.4g} ± {estimate.stderr:.2g}"


def _interval(estimate: Estimate) -> str:
    low, high = estimate.interval
    return f"{low:.3g} to {high:.3g}"
