"""What a trial costs beside its own training: on a warm worker group, and with a group of its own.

Two ways to run the same trials one after the other, on the demo model:

    warm     as ``hft-ray tune`` runs a sweep: one long-lived worker group takes trial after trial
    nested   the recipe of Ray's documentation: each Tune trial runs a ``TorchTrainer.fit()``

Every step is reported, so the overhead between two trials is what passes between the last report of
one (its training and evaluation are done) and the first report of the next (its first step is
done), less one step:

    t_first(i + 1) - t_last(i) - median step of trial i + 1

It holds ending the one, Tune's and Optuna's part, starting the other, loading the weights, building
the DeepSpeed engine, and whatever the first step costs more than the later ones.

    python benchmarks/trial_overhead.py [--trials 12] [--nested 4] [--steps 10]

Exits with 1 when the warm median is above 1.5 s or less than 15 times below the nested one.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import ray
import ray.train
import ray.train.torch
import torch
from ray import tune
from ray.train.torch import TorchConfig, TorchTrainer

from hft_ray.background import BackgroundErrors
from hft_ray.cli.logs import terminal
from hft_ray.config import Config
from hft_ray.config.keys import with_settings
from hft_ray.config.load import validate
from hft_ray.orchestration.folder import SweepFolder
from hft_ray.orchestration.ray_cluster import connect, cores
from hft_ray.orchestration.sweep import run_sweep
from hft_ray.ranks import Ranks
from hft_ray.training import Workspace, check
from hft_ray.training.process_group import start_deepspeed
from hft_ray.training.run import run

DATA = "package:hft_ray/demo/data"
MOST_SECONDS, LEAST_RATIO = 1.5, 15.0

Steps = dict[str, list[float]]
"""Trial -> time of each of its reports."""


def demo_config(trials: int, steps: int) -> Config:
    """Return a sweep on the demo model whose trials are short."""
    evaluation = {"kind": "generation", "limit": 20}
    return validate(
        {
            "name": "overhead",
            "model": "package:hft_ray/demo/model",
            "data": {"train": f"{DATA}/task_train.jsonl", "max_length": 64},
            "training": {
                "steps": steps,
                "batch_size": 16,
                "learning_rate": 1e-3,
                "zero_stage": 2,
                "log_every": 1,
            },
            "evaluation": {
                "task": [{"name": "new", "data": f"{DATA}/task_test.jsonl", **evaluation}],
                "general": [{"name": "old", "data": f"{DATA}/general.jsonl", **evaluation}],
            },
            "search": {
                "trials": trials,
                "space": {
                    "selection.ratio": {"low": 0.1, "high": 1.0},
                    "selection.granularity": ["model", "layer", "category"],
                },
            },
        },
        "benchmark",
    )


def warm(config: Config, root: Path) -> Steps:
    """Run the sweep; return the times of every trial's reports, taken by the dispatcher."""
    folder = SweepFolder(root, config.name)
    folder.claim(config)
    reports: Steps = {}

    def watch(event: dict[str, Any], view: Any) -> None:
        if event["event"] == "report":
            reports.setdefault(event["trial"], []).append(event["time"])

    run_sweep(config, folder, watch, threading.Event(), BackgroundErrors())
    return reports


def nested(config: Config, root: Path, trials: int) -> Steps:
    """Run trials with a ``TorchTrainer`` each; return the times of their reports."""
    times = root / "nested"
    times.mkdir()
    # As text: Tune takes dotted keys apart.
    setup = {"config": config.model_dump_json(exclude_unset=True), "root": str(root)}
    tuner = tune.Tuner(
        tune.with_resources(_nested_trial, {"cpu": 0.01}),
        param_space={**setup, "ratio": tune.grid_search([1.0, 0.75, 0.5, 0.25, 0.1][:trials])},
        tune_config=tune.TuneConfig(max_concurrent_trials=1),
        run_config=tune.RunConfig(name="nested", storage_path=str(root / "tune"), verbose=0),
    )
    tuner.fit()
    found = [json.loads(file.read_text()) for file in times.iterdir()]
    return {f"nested-{index}": each for index, each in enumerate(sorted(found))}


def _nested_trial(setup: dict[str, Any]) -> None:
    TorchTrainer(
        _nested_worker,
        train_loop_config=setup,
        scaling_config=ray.train.ScalingConfig(num_workers=1),
        torch_config=TorchConfig(backend=None),
        run_config=ray.train.RunConfig(
            name=f"ratio-{setup['ratio']}", storage_path=str(Path(setup["root"]) / "train")
        ),
    ).fit()


def _nested_worker(setup: dict[str, Any]) -> None:
    """Do what one trial does on a worker group, with the same parts."""
    start_deepspeed()
    torch.set_num_threads(1)
    config = Config.model_validate_json(setup["config"])
    workspace = Workspace(Path(setup["root"]), Ranks(), ray.train.torch.get_device())
    times: list[float] = []

    def report(step: int, metrics: dict[str, float], scored: bool, last: bool) -> bool:
        times.append(time.time())
        return False

    run(with_settings(config, {"selection.ratio": setup["ratio"]}), workspace, report)
    (Path(setup["root"]) / "nested" / f"{setup['ratio']}.json").write_text(json.dumps(times))


def overheads(reports: Iterable[list[float]]) -> list[float]:
    """Return the seconds between each two successive trials that are nobody's training."""
    ordered = sorted(reports)
    found = []
    for before, after in itertools.pairwise(ordered):
        # The last report comes after the evaluation: it tells nothing of a step.
        steps = [late - early for early, late in itertools.pairwise(after[:-1])]
        found.append(after[0] - before[-1] - statistics.median(steps))
    return found


def _line(kind: str, seconds: list[float]) -> str:
    middle, low, high = statistics.median(seconds), min(seconds), max(seconds)
    return f"{kind:<8}{len(seconds):>5}{middle:>10.2f} s{low:>10.2f} s{high:>10.2f} s"


def main() -> int:
    """Run both, print the table, return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--trials", type=int, default=12, help="trials on the warm group")
    parser.add_argument("--nested", type=int, default=4, help="trials with a trainer each (2 to 5)")
    parser.add_argument("--steps", type=int, default=10, help="optimizer steps of a trial")
    options = parser.parse_args()
    config = demo_config(options.trials, options.steps)
    with tempfile.TemporaryDirectory(prefix="hft-ray-") as name:
        root = Path(name)
        with terminal(root / "benchmark.log") as console:
            check(config, Workspace(root, Ranks(), torch.device("cpu")), "benchmark")
            connect(None)
            console.print(f"{options.trials} trials on a warm group ...")
            on_group = overheads(warm(config, root).values())
            console.print(f"{options.nested} trials with a trainer each ...")
            on_their_own = overheads(nested(config, root, options.nested).values())
            load = os.getloadavg()[0]
            ray.shutdown()
    seconds = statistics.median(on_group)
    ratio = statistics.median(on_their_own) / seconds
    parts = ", ".join(f"{part} {version(part)}" for part in ("ray", "torch", "deepspeed", "optuna"))
    print(f"machine   {cores()} cores of {platform.machine()}, load {load:.1f}")
    print(f"versions  Python {platform.python_version()}, {parts}")
    print(f"command   {' '.join(['python', *sys.argv])}")
    print(f"\n{'':<8}{'gaps':>5}{'median':>12}{'lowest':>12}{'highest':>12}")
    print(_line("warm", on_group))
    print(_line("nested", on_their_own))
    print(f"\nnested / warm = {ratio:.0f}")
    return 0 if seconds <= MOST_SECONDS and ratio >= LEAST_RATIO else 1


if __name__ == "__main__":
    sys.exit(main())
