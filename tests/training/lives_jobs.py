"""What the forked processes of ``lives_worker`` do."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch

from hft_ray.config import Config
from hft_ray.ranks import Ranks
from hft_ray.training import Workspace, run


def train(ranks: Ranks, root: Path, cases: dict[str, Any]) -> dict[str, Any]:
    """Run cases: name -> FILE and ``out``, a folder that may have checkpoints to go on from."""
    workspace = Workspace(root, ranks, torch.device("cpu"))
    results: dict[str, Any] = {}
    told = _Told()
    for name, case in cases.items():
        losses: dict[int, float] = {}
        told.messages = []

        def report(
            step: int, metrics: dict[str, float], scored: bool, losses: dict[int, float] = losses
        ) -> bool:
            losses[step] = metrics["train/loss"]
            return False

        config, out = Config.model_validate(case["file"]), Path(case["out"])
        outcome = run(config, workspace, report, out / "model", out / "checkpoints")
        results[name] = {
            "losses": losses,
            "outcome": outcome.to_json(),
            "told": told.messages,
        }
    return results


class _Told(logging.Handler):
    """What training logs, which the command shows on the terminal."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.messages: list[str] = []
        logger = logging.getLogger("hft_ray.training")
        logger.setLevel(logging.INFO)
        logger.addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())
