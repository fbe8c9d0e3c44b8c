"""Scores of models trained with fp32 optimizer states and with lean ones, seed by seed.

    OMP_NUM_THREADS=1 python benchmarks/lean_states.py OUT.jsonl [--file FILE] [--seeds 5]
        [--set KEY=VALUE ...]

Trains FILE (by default ``benchmarks/curves.yaml``, the demo; ``search_spaces/smollm2.yaml`` is the
135M model) in bf16, half by category, once with each ``training.optimizer_states`` and seed, which
is that of the data and of the draw. Prints each score's mean and standard deviation over the seeds,
and the mean difference of the same seeds with its 95 % interval. An interruption loses one
training: the same command goes on.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path

from resumable import Line, print_how, run_all
from scipy import stats

from hft_ray.config import Config
from hft_ray.config.keys import with_settings
from hft_ray.config.load import load
from hft_ray.training import Workspace
from hft_ray.training.process_group import local_device, process_group, start_deepspeed
from hft_ray.training.run import run

FILE = Path(__file__).parent / "curves.yaml"
STATES = ("fp32", "bf16")
SHOWN = ("task/", "general/", "forgetting/mean")


def scores(config: Config, workspace: Workspace, states: str, seed: int) -> Line:
    """Train once; return the scores."""
    settings = {
        "selection.ratio": 0.5,
        "selection.granularity": "category",
        "selection.seed": seed,
        "training.seed": seed,
        "training.precision": "bf16",
        "training.adam_betas": [0.9, 0.99],  # a step of 0.999 is less than bf16 can hold
        "training.optimizer_states": states,
    }
    outcome = run(with_settings(config, settings), workspace, lambda *_: False)
    return {"scores": {k: v for k, v in outcome.values.items() if k.startswith(SHOWN)}}


def show(lines: list[Line]) -> None:
    """Print a row for each score."""
    found = {(each["states"], each["seed"]): each["scores"] for each in lines}
    seeds = sorted({seed for _, seed in found})
    print("| score | fp32 states | lean states | difference [95 % CI] |")
    print("| --- | ---: | ---: | ---: |")
    for name in found["fp32", seeds[0]]:
        full, lean = ([found[states, seed][name] for seed in seeds] for states in STATES)
        differences = [b - a for a, b in zip(full, lean, strict=True)]
        mean = statistics.fmean(differences)
        error = statistics.stdev(differences) / len(seeds) ** 0.5
        half = error * float(stats.t.ppf(0.975, len(seeds) - 1))
        cells = [f"{statistics.fmean(x):.4f} ± {statistics.stdev(x):.4f}" for x in (full, lean)]
        cells.append(f"{mean:+.4f} [{mean - half:+.4f}, {mean + half:+.4f}]")
        print(f"| {name} | {' | '.join(cells)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--file", type=Path, default=FILE)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    given = parser.parse_args()
    config = load(given.file, given.set)
    print_how()
    jobs = [{"states": each, "seed": seed} for seed in range(given.seeds) for each in STATES]
    with tempfile.TemporaryDirectory() as folder, process_group() as ranks:
        start_deepspeed()
        workspace = Workspace(Path(folder), ranks, local_device())
        show(run_all(given.out, jobs, lambda **job: scores(config, workspace, **job)))


if __name__ == "__main__":
    main()
