"""Records learning curves of real trainings, for ``hft-ray tune --simulate`` and for tests.

Trains configurations of FILE's space, each with several seeds, in this one process, and writes a
table: a row for each score of each training, after one with the untouched model's scores, and a row
for each of seven averages of the trained model with the base. The configurations are full
fine-tuning at some learning rates and then a Sobol sequence; the seed is both the draw's
(``selection.seed``) and the data order's (``training.seed``). All configurations get their first
seed before any gets its second. ``seconds`` is processor time, which on a machine that does other
things as well is the same as on one that does not.

    python benchmarks/record_curves.py OUT.jsonl [--file benchmarks/curves.yaml]
        [--configurations 60] [--seeds 3]

An interruption loses one training: the same command goes on.
"""

from __future__ import annotations

import argparse
import json
import logging
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import torch

from hft_ray.config import Config, Variants
from hft_ray.config.keys import with_settings
from hft_ray.config.load import load
from hft_ray.search.search_space import Space
from hft_ray.training import TrainingError, Workspace
from hft_ray.training.base import run_base
from hft_ray.training.process_group import local_device, process_group, start_deepspeed
from hft_ray.training.run import run
from hft_ray.training.variant_builder import RunArtifacts

FILE = Path(__file__).parent / "curves.yaml"
RATE = "training.learning_rate"
ALPHAS = [n / 8 for n in range(1, 8)]
RATES = 4
"""Learning rates of full fine-tuning."""
DIGITS = 5
"""Significant digits of what is written."""


def configurations(config: Config, number: int) -> Iterator[dict[str, Any]]:
    """Yield the configurations to record, in order; more of them begin with the same ones."""
    assert config.search is not None
    space = config.search.space
    low, high = space[RATE].low, space[RATE].high  # type: ignore[union-attr]
    for place in range(min(number, RATES)):
        rate = low * (high / low) ** ((place + 0.5) / RATES)
        full = {"selection.granularity": "model", "selection.reselect": "never"}
        yield {"selection.ratio": 1.0, **full, RATE: rounded(rate)}
    # The message that it is experimental says nothing about it.
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    sampler = optuna.samplers.QMCSampler(
        seed=0, scramble=True, independent_sampler=optuna.samplers.RandomSampler(seed=0)
    )
    study = optuna.create_study(sampler=sampler)
    for _ in range(number - RATES):
        trial = study.ask()
        params = Space(space).suggest(trial, {}, config)
        study.tell(trial, 0.0)
        yield {key: rounded(x) if isinstance(x, float) else x for key, x in params.items()}


def rounded(value: float) -> float:
    """Return ``value`` with few digits."""
    return float(f"{value:.{DIGITS}g}")


def curve(config: Config, params: dict[str, Any], workspace: Workspace) -> list[dict[str, Any]]:
    """Train once; return the rows of the training, the last one ``failed`` if it failed."""
    rows: list[dict[str, Any]] = []
    began = time.process_time()

    def row(step: int, **told: Any) -> None:
        seconds = round(time.process_time() - began, 2)
        rows.append({"params": params, "step": step, **told, "seconds": seconds})

    def report(step: int, metrics: dict[str, float], scored: bool, last: bool) -> bool:
        if scored:
            row(step, metrics=kept(metrics))
        return False

    assert config.search is not None
    averages = Variants(averages=list(ALPHAS), half_reset=False, steps=0)
    wanted = RunArtifacts(None, config.search.objectives, averages)
    try:
        outcome = run(with_settings(config, params), workspace, report, wanted=wanted)
        trained, ended = rows[-1]["seconds"], time.process_time() - began
        for number, each in enumerate(outcome.variants, start=1):
            seconds = trained + (ended - trained) * number / len(outcome.variants)
            row(each.step, variant=each.variant, metrics=kept(each.values))
            rows[-1]["seconds"] = round(seconds, 2)
    except TrainingError as error:
        assert config.training.steps is not None
        row(rows[-1]["step"] + 1 if rows else 1, failed=str(error))
    return rows


def kept(metrics: dict[str, float]) -> dict[str, float]:
    """Return what a table needs of the metrics: scores, forgetting, the share that is trained."""
    wanted = ("task/score", "general/score", "forgetting/mean", "selection/", "cost/peak")
    return {name: rounded(x) for name, x in metrics.items() if name.startswith(wanted)}


def main() -> None:
    """Record what is missing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--file", type=Path, default=FILE)
    parser.add_argument("--configurations", type=int, default=60)
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    logging.disable(logging.WARNING)
    config = load(given.file)
    chosen = list(configurations(config, given.configurations))
    lines = given.out.read_text("utf-8").splitlines() if given.out.exists() else []
    known = {json.dumps(json.loads(line)["params"]) for line in lines}
    with (
        process_group() as ranks,
        tempfile.TemporaryDirectory() as root,
        given.out.open("a", encoding="utf-8") as file,
    ):
        torch.set_num_threads(1)
        start_deepspeed()
        workspace = Workspace(Path(root), ranks, local_device())
        if not known:
            base = kept(run_base(config, workspace)["values"])
            file.write(json.dumps({"params": {}, "step": 0, "metrics": base, "seconds": 0}) + "\n")
        for seed in range(given.seeds):
            for number, chosen_one in enumerate(chosen):
                params = {**chosen_one, "selection.seed": seed, "training.seed": seed}
                if json.dumps(params) in known:
                    continue
                rows = curve(config, params, workspace)
                file.write("".join(json.dumps(row) + "\n" for row in rows))
                file.flush()
                print(f"seed {seed}, configuration {number}: {rows[-1]}", flush=True)


if __name__ == "__main__":
    main()
