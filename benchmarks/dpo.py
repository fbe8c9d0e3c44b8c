"""Preferences on the demo: what is learned of them, and what is forgotten for it.

Trains ``search_spaces/demo_dpo.yaml`` fully and by half, with several seeds of the data order and
of the draw, and prints means and standard errors over seeds.

    nice -n 19 python benchmarks/dpo.py [--seeds 3] [--rates 1e-4 ...] [--after-sft]

With --after-sft the model is fine-tuned on the chosen answers first, and then by preferences, each
method at learning rates of its own; --rates is not used.
Exits with 1 when a setting's accuracy of rewards on held-out pairs is 0.9 or less.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import platform
import statistics
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import torch

from hft_ray.config.load import load
from hft_ray.data import locate
from hft_ray.training import Workspace
from hft_ray.training.process_group import process_group, start_deepspeed
from hft_ray.training.run import run

FILE = Path(__file__).parent.parent / "search_spaces" / "demo_dpo.yaml"
METHODS = {
    "full": ["selection.ratio=1.0", "selection.granularity=model"],
    "half, category": ["selection.ratio=0.5", "selection.granularity=category"],
}
STAGED_RATES = {"full": (5e-4, 5e-5), "half, category": (8e-4, 1e-4)}
"""Of fine-tuning and of preferences: rates at which both methods come to about the same margin."""
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
    return run(config, workspace, lambda *told: False).values


def after_sft(name: str, folder: Path) -> list[str]:
    """Return the settings of fine-tuning on the chosen answers and then by preferences."""
    pairs = locate(load(FILE).data.train, "data.train")
    assert pairs is not None
    answers = folder / "answers.jsonl"
    with pairs.open(encoding="utf-8") as lines, answers.open("w", encoding="utf-8") as file:
        for pair in map(json.loads, lines):
            record = {"prompt": pair["prompt"], "completion": pair["chosen"]}
            file.write(json.dumps(record) + "\n")
    sft, dpo = STAGED_RATES[name]
    return [
        "search=null",
        "method=sft",
        f"stages=[{{kind: sft, steps: 60, learning_rate: {sft}}}, "
        f"{{kind: dpo, steps: 20, learning_rate: {dpo}, beta: 0.5}}]",
        f"data.train={answers}",
        f"data.preferences={pairs}",
        "selection.reselect=task",
    ]


def mean(values: list[float]) -> str:
    """Return the mean and its standard error over seeds."""
    error = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return f"{statistics.mean(values):.3f} +- {error:.3f}"


def main() -> int:
    """Measure, print, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rates", type=float, nargs="+", default=[1e-4])
    parser.add_argument("--after-sft", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "deepspeed"))
    print(f"{platform.machine()}, Python {platform.python_version()}, {versions}")
    print(f"| trained | learning rate | {' | '.join(COLUMNS)} |\n|{' --- |' * (2 + len(COLUMNS))}")
    worst = 1.0
    with tempfile.TemporaryDirectory() as storage, process_group() as ranks:
        start_deepspeed()
        workspace = Workspace(Path(storage), ranks, torch.device("cpu"))
        rates = [None] if arguments.after_sft else arguments.rates
        for rate, (name, settings) in itertools.product(rates, METHODS.items()):
            said: tuple[float, ...]
            if rate is None:
                chosen, said = [*settings, *after_sft(name, Path(storage))], STAGED_RATES[name]
            else:
                chosen, said = [*settings, f"training.learning_rate={rate}"], (rate,)
            # Another draw with another seed, where there is one.
            runs = [
                train(workspace, [*chosen, f"training.seed={seed}", f"selection.seed={seed}"])
                for seed in range(arguments.seeds)
            ]
            columns = [[each[key] for each in runs] for key in COLUMNS.values()]
            cells = " | ".join(mean(column) for column in columns)
            print(f"| {name} | {', '.join(f'{each:g}' for each in said)} | {cells} |", flush=True)
            worst = min(worst, statistics.mean(columns[0]))
    return 0 if worst > ENOUGH else 1


if __name__ == "__main__":
    sys.exit(main())
