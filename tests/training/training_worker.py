"""Runs many cases in one process (or in each of several ranks) and writes what came of them.

Started as ``python training_worker.py JOB``, where JOB is a JSON file: ``root`` (storage root),
``out`` (folder of the results) and ``cases`` (name -> FILE). Rank 0 writes ``out/results.json``:
name -> losses by step, outcome, and the error of every rank; the models are ``out/NAME``.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch

from hft_ray.config import Config
from hft_ray.ranks import Ranks
from hft_ray.training import TrainingError, Workspace, run
from hft_ray.training.process_group import process_group, start_deepspeed


def run_case(file: dict[str, Any], root: Path, out: Path, ranks: Ranks) -> dict[str, Any]:
    losses: list[float] = []
    reports: list[int] = []

    def report(step: int, metrics: dict[str, float], scored: bool) -> bool:
        losses.append(metrics["train/loss"])
        reports.append(step)
        return bool(file.get("stop_at") == step)

    config = Config.model_validate({key: file[key] for key in file if key != "stop_at"})
    error, outcome = None, None
    try:
        workspace = Workspace(root, ranks, torch.device("cpu"))
        checkpoints = out.with_name(f"{out.name}-checkpoints")
        outcome = run(config, workspace, report, out, checkpoints).to_json()
    except TrainingError as caught:
        error = str(caught)
    return {
        "losses": losses,
        "reports": reports,
        "outcome": outcome,
        "errors": ranks.gather(error or ""),
    }


def main() -> None:
    job = json.loads(Path(sys.argv[1]).read_text())
    torch.set_num_threads(1)
    out = Path(job["out"])
    results = {}
    with process_group() as ranks:
        start_deepspeed()
        for name, file in job["cases"].items():
            results[name] = run_case(file, Path(job["root"]), out / name, ranks)
        if ranks.main:
            (out / "results.json").write_text(json.dumps(results))


if __name__ == "__main__":
    main()
