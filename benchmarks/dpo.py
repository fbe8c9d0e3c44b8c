"""Preferences on the demo: what is learned of them, and what is forgotten for it.

Trains ``search_spaces/demo_dpo.yaml`` fully and by half, with several seeds of the data order and
of the draw, and prints means and standard errors over seeds.

    nice -n 19 python benchmarks/dpo.py [--seeds 3] [--rates 1e-4 ...]

Exits with 1 when a setting's accuracy of rewards on held-out pairs is 0.9 or less.
"""

from __future__ import annotations

import argparse
import itertools
import math
import platform
import statistics
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import torch

from hft_ray.config.load import load
from hft_ray.training import Workspace, run
from hft_ray.training.process_group import process_group, start_deepspeed

FILE = Path(__file__).parent.parent / "search_spaces" / "demo_dpo.yaml"
METHODS = {
    "full": ["selection.ratio=1.0", "selection.granularity=model"],
    "half, category": ["selection.ratio=0.5", "selection.granularity=category"],
}
COLUMNS = {
    "reward accuracy": "task/reward-accuracy",
    "reward margin": "task/reward-margin",
    "likelier": "task/likelier",
    "facts forgotten": "forgetting/old-facts",
    "answers spoilt": "forgetting/answers",
}
ENOUGH = 0.9


def train(workspace: Workspace, settings: list[str]) -> dict[str, float]:
    """Return the values of one training."""
    config = load(FILE, settings).model_copy(update={"search": None})
    return run(config, workspace, lambda step, metrics, scored: False).values


def mean(values: list[float]) -> str:
    """Return the mean and its standard error over seeds."""
    error = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return f"{statistics.mean(values):.3f} +- {error:.3f}"


def main() -> int:
    """Measure, print, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rates", type=float, nargs="+", default=[1e-4])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "deepspeed"))
    print(f"{platform.machine()}, Python {platform.python_version()}, {versions}")
    print(f"| trained | learning rate | {' | '.join(COLUMNS)} |\n|{' --- |' * (2 + len(COLUMNS))}")
    worst = 1.0
    with tempfile.TemporaryDirectory() as storage, process_group() as ranks:
        start_deepspeed()
        workspace = Workspace(Path(storage), ranks, torch.device("cpu"))
        for rate, (name, settings) in itertools.product(arguments.rates, METHODS.items()):
            chosen = [*settings, f"training.learning_rate={rate}"]
            # Another draw with another seed, where there is one.
            runs = [
                train(workspace, [*chosen, f"training.seed={seed}", f"selection.seed={seed}"])
                for seed in range(arguments.seeds)
            ]
            columns = [[each[key] for each in runs] for key in COLUMNS.values()]
            cells = " | ".join(mean(column) for column in columns)
            print(f"| {name} | {rate:g} | {cells} |", flush=True)
            worst = min(worst, statistics.mean(columns[0]))
    return 0 if worst > ENOUGH else 1


if __name__ == "__main__":
    sys.exit(main())
