"""Runs many cases on each of the ranks, and returns what came of them (of ``lives_worker``).

A case is a FILE; of each, name -> losses by step, outcome, and the error of every rank. The models
are ``out/NAME``.

Beside FILE a case may have ``stop_at`` (a step), ``extras`` (search.variants, by whose objectives;
what is kept lies in ``out/NAME-kept``, the model after the variants in ``out/NAME-after``), and
``again``: the run is stopped at ``stop_at``, and goes on from its newest checkpoint.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hft_ray.config import Config, Variants
from hft_ray.ranks import Ranks
from hft_ray.training import TrainingError, Workspace
from hft_ray.training.numerics import Numerics
from hft_ray.training.run import run
from hft_ray.training.save_model import save_model
from hft_ray.training.variant_builder import RunArtifacts

BESIDE = ("stop_at", "extras", "again")
OBJECTIVES = {"general/texts": "min", "forgetting/questions": "min"}


class AndAfter(Workspace):
    """A workspace that also writes what a run leaves of its model."""

    after: Path | None = None

    @contextmanager
    def model(self, config: Config, numerics: Numerics) -> Iterator[nn.Module]:
        """Yield the base model; write it when the run is over."""
        with super().model(config, numerics) as model:
            yield model
            if self.after is not None:
                save_model(model, self.tokenizer(config.model), self.after, self.ranks)


def run_case(file: dict[str, Any], workspace: AndAfter, out: Path) -> dict[str, Any]:
    losses: list[float] = []
    reports: list[int] = []
    told: list[tuple[int, dict[str, float]]] = []
    final: list[int] = []

    def report(step: int, metrics: dict[str, float], scored: bool, last: bool) -> bool:
        told.append((step, metrics))
        if step:  # before the first step of tasks in turn the base is told
            losses.append(metrics["train/loss"])
            reports.append(step)
        if last:
            final.append(step)
        return bool(file.get("stop_at") == step)

    config = Config.model_validate({key: file[key] for key in file if key not in BESIDE})
    workspace.after, wanted = None, None
    if "extras" in file:
        workspace.after = out.with_name(f"{out.name}-after")
        folder = out.with_name(f"{out.name}-kept")
        wanted = RunArtifacts(folder, OBJECTIVES, Variants(**file["extras"]))
    error, outcome = None, None
    try:
        checkpoints = out.with_name(f"{out.name}-checkpoints")
        if file.get("again"):
            run(config, workspace, report, None, checkpoints, wanted)
            del file["stop_at"]
        outcome = run(config, workspace, report, out, checkpoints, wanted).to_json()
    except TrainingError as caught:
        error = str(caught)
    return {
        "losses": losses,
        "reports": reports,
        "last": final,
        "told": told if config.tasks else [],
        "outcome": outcome,
        "errors": workspace.ranks.gather(error or ""),
    }


def run_cases(
    ranks: Ranks, root: Path, cases: dict[str, dict[str, Any]], out: str
) -> dict[str, Any]:
    """Run cases (name -> FILE and what a case may have beside it)."""
    workspace = AndAfter(root, ranks, torch.device("cpu"))
    return {name: run_case(file, workspace, Path(out) / name) for name, file in cases.items()}
