"""Four tasks in turn on the demo's model: what each method keeps of tasks and of old knowledge.

    python benchmarks/continual.py [--seeds 3] [--configs NAME ...] [--out RESULTS.jsonl]
                                   [--track ROOT]

Runs ``search_spaces/continual.yaml`` for each configuration and seed, one after another in this
process on one core, and prints a table in Markdown: mean and standard error over the seeds of OP,
BWT (as TRACE defines them), learning accuracy and the general-ability delta, in points of 100.
A seed is that of the data's order, of what is replayed, and of the draws. With --out every run is
written as it ends, and is not made again when the command is. With --track every run is also logged
to the MLflow store of that storage root, as the trials of a sweep are.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import platform
import statistics
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from hft_ray.config import Config
from hft_ray.config.keys import settings as flat
from hft_ray.config.load import load
from hft_ray.orchestration.folder import to_yaml
from hft_ray.tracking import Tracker, artifact_location, tracking_uri
from hft_ray.training import Workspace
from hft_ray.training.outcome import Report
from hft_ray.training.process_group import process_group, start_deepspeed
from hft_ray.training.run import run

FILE = Path(__file__).parents[1] / "search_spaces" / "continual.yaml"
FULL = {"selection.ratio": 1.0, "selection.granularity": "model", "selection.reselect": "never"}
FULL_RATE, HALF_RATE = 3.0e-4, 5.0e-4
"""Learning rates of full and half fine-tuning: with fewer parameters trained, a higher one."""
REPLAY = {"method.replay.old": 0.1, "method.replay.general": 0.1}


def _half(granularity: str, reselect: str) -> dict[str, Any]:
    return {"selection.granularity": granularity, "selection.reselect": reselect}


CONFIGS: dict[str, dict[str, Any]] = {
    "SeqFT, full": FULL,
    "HFT model, drawn once": _half("model", "never"),
    "HFT model, per task": _half("model", "task"),
    "HFT layer, drawn once": _half("layer", "never"),
    "HFT layer, per task": _half("layer", "task"),
    "HFT category, drawn once": _half("category", "never"),
    "HFT category, per task": _half("category", "task"),
    "Replay, full": FULL | REPLAY,
    "Replay, HFT category, per task": _half("category", "task") | REPLAY,
}
COLUMNS = {
    "OP": "continual/op",
    "BWT": "continual/bwt",
    "learned": "continual/learning_accuracy",
    "general": "continual/general",
}


def settings(name: str, seed: int) -> dict[str, Any]:
    """Return the settings of a configuration: dotted key -> value."""
    rate = FULL_RATE if "full" in name else HALF_RATE
    seeds = {"training.seed": seed, "selection.seed": seed}
    return {"training.learning_rate": rate, **CONFIGS[name], **seeds}


def measure(
    name: str, seed: int, workspace: Workspace, tracker: Tracker | None = None
) -> dict[str, Any]:
    """Make one run, which ``tracker`` is told of; return its measures."""
    config = load(FILE, [f"{key}={value}" for key, value in settings(name, seed).items()])
    outcome = run(config, workspace, _report(name, seed, config, tracker))
    if tracker is not None:
        tracker.finish_trial(_trial(name, seed), outcome.state)
    values = {column: outcome.values[metric] for column, metric in COLUMNS.items()}
    return {"config": name, "seed": seed, **values, "seconds": outcome.seconds}


def _trial(name: str, seed: int) -> str:
    return f"{name.replace(', ', '-').replace(' ', '_')}-seed{seed}"


def _report(name: str, seed: int, config: Config, tracker: Tracker | None) -> Report:
    """Return what a run reports to: nobody, or a run of its own in MLflow."""
    if tracker is None:
        return lambda *told: False
    trial = _trial(name, seed)
    tracker.open_trial(trial, flat(config), {})

    def report(step: int, metrics: dict[str, float], scored: bool, last: bool) -> bool:
        tracker.log(trial, step, metrics)
        return False

    return report


def _tracker(root: Path) -> Tracker:
    """Return a tracker that has the benchmark open as a sweep."""
    uri, config = tracking_uri(None, root), load(FILE)
    artifacts = artifact_location(uri, root)
    tracker = Tracker(uri, config.tracking.experiment, spool=root / "spool", artifacts=artifacts)
    tracker.open_sweep("benchmark-continual", to_yaml(config), flat(config), {})
    return tracker


def table(results: list[dict[str, Any]]) -> str:
    """Return the table of mean and standard error, a row for each configuration."""
    lines = ["| method | " + " | ".join([*COLUMNS, "seconds"]) + " |"]
    lines.append("| --- |" + " ---: |" * (len(COLUMNS) + 1))
    for name in dict.fromkeys(each["config"] for each in results):
        runs = [each for each in results if each["config"] == name]
        cells = [_cell([100 * each[column] for each in runs]) for column in COLUMNS]
        seconds = statistics.median(each["seconds"] for each in runs)
        lines.append(f"| {name} | " + " | ".join([*cells, f"{seconds:.0f}"]) + " |")
    return "\n".join(lines)


def _cell(values: list[float]) -> str:
    mean = statistics.mean(values)
    if len(values) < 2:
        return f"{mean:.1f}"
    return f"{mean:.1f} +- {statistics.stdev(values) / math.sqrt(len(values)):.1f}"


def _made(out: Path | None) -> list[dict[str, Any]]:
    if out is None or not out.exists():
        return []
    return [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--configs", nargs="+", choices=CONFIGS, default=list(CONFIGS))
    parser.add_argument("--out", type=Path)
    parser.add_argument("--track", type=Path, metavar="ROOT")
    arguments = parser.parse_args()
    logging.getLogger("deepspeed").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    results = _made(arguments.out)
    known = {(each["config"], each["seed"]) for each in results}
    tracker = _tracker(arguments.track) if arguments.track else None
    with tempfile.TemporaryDirectory() as root, process_group() as ranks:
        start_deepspeed()
        workspace = Workspace(Path(root), ranks, torch.device("cpu"))
        # Seed by seed, so that an unfinished benchmark has seen every configuration as often.
        for seed in range(arguments.seeds):
            for name in arguments.configs:
                if (name, seed) not in known:
                    results.append(measure(name, seed, workspace, tracker))
                    _keep(results[-1], arguments.out)
    if tracker is not None:
        tracker.finish_sweep("complete")
        tracker.close()
    versions = ", ".join(f"{each} {version(each)}" for each in ("torch", "transformers"))
    place = f"{platform.machine()}, one core, Python {platform.python_version()}, {versions}"
    sys.stdout.write(f"{place}\ncommand: python {' '.join(sys.argv)}\n\n{table(results)}\n")


def _keep(result: dict[str, Any], out: Path | None) -> None:
    if out is not None:
        with out.open("a", encoding="utf-8") as file:
            file.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
