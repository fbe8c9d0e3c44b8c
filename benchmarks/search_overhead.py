"""What the search itself costs: a suggestion of each sampler, and a decision of the rungs.

    python benchmarks/search_overhead.py [--trials 1000] [--records 10000] [--suggestions 20]

The study is on disk and holds so many finished trials of six settings and two objectives, half of
them stopped early, and four are under way. A suggestion is what a free worker group waits for:
``Study.next_trial``. A decision is one report at a rung on which so many trials were compared.
Times are of the processor, so that a busy machine counts less.
"""

from __future__ import annotations

import argparse
import platform
import shutil
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from hft_ray.config import Config
from hft_ray.config.load import validate
from hft_ray.search import Study
from hft_ray.search.rungs import Halving, Rungs, Verdict

SAMPLERS = ("tpe", "tpe_multivariate", "nsga2", "nsga3", "random", "sobol", "gp", "botorch")
MOST_MS = {"tpe": 100.0, "botorch": 5000.0, "decision": 1.0}


def make_config(sampler: str, trials: int) -> Config:
    space = {
        "selection.ratio": {"low": 0.05, "high": 1.0},
        "selection.granularity": ["model", "layer", "category"],
        "selection.seed": {"low": 0, "high": 99},
        "training.learning_rate": {"low": 1e-5, "high": 1e-3, "log": True},
        "training.weight_decay": {"low": 0.0, "high": 0.1},
        "training.warmup": {"low": 0.0, "high": 0.2},
    }
    search = {"space": space, "trials": trials, "sampler": sampler, "scheduler": "asha"}
    return validate(
        {
            "name": "s",
            "model": "m",
            "data": {"train": "d.jsonl"},
            "training": {"steps": 90},
            "evaluation": {"every": 10},
            "search": search,
        },
        "FILE",
    )


def fill(folder: Path, trials: int) -> None:
    """Write a study with so many finished trials, drawn at random, and four under way."""
    study = Study(make_config("random", trials + 4), folder / "search.jsonl")
    rng = np.random.default_rng(0)
    for _ in range(trials):
        known = study.next_trial()
        assert known is not None
        ratio = known.params["selection.ratio"]
        values = {
            "task/score": ratio**0.5 + rng.normal(scale=0.1),
            "forgetting/mean": ratio + rng.normal(scale=0.1),
        }
        verdict = study.on_report(known.trial, 10, values)
        state = "stopped" if verdict is not None and verdict.stop else "complete"
        study.tell(known.trial, {"state": state, "step": 10, "values": values})
    for _ in range(4):
        study.next_trial()


def timed(call: Callable[[], Any]) -> float:
    """Return the milliseconds of processor time of a call."""
    started = time.process_time()
    call()
    return 1000 * (time.process_time() - started)


def suggestion(sampler: str, folder: Path, trials: int, count: int) -> list[float]:
    study = Study(make_config(sampler, trials + 5 + count), folder / "search.jsonl")
    for _ in range(5):
        # Those under way come back first; the first new one builds what later ones reuse.
        study.next_trial()
    return [timed(study.next_trial) for _ in range(count)]


def decision(objectives: int, records: int) -> list[float]:
    names = [f"task/{number}" for number in range(objectives)]
    rules = Halving(min_steps=10, eta=3, every=10, epsilon=0.05)
    rungs = Rungs(rules, dict.fromkeys(names, "min"))
    table = np.random.default_rng(0).random((records + 400, objectives))
    rows = [dict(zip(names, row.tolist(), strict=True)) for row in table]
    made = [
        vars(Verdict(f"t{i}", rung, rung, row, False, 1, 1, 0, 1, ""))
        for i, row in enumerate(rows[:records])
        for rung in ([10, 30] if i % 3 == 0 else [10])
    ]
    rungs.restore(made)
    return [timed(partial(rungs.report, f"n{i}", 10, row)) for i, row in enumerate(rows[records:])]


def line(name: str, times: list[float]) -> str:
    high = statistics.quantiles(times, n=20)[-1]
    return f"{name:24} median {statistics.median(times):9.3f} ms   95 % below {high:9.3f} ms"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--records", type=int, default=10_000)
    parser.add_argument("--suggestions", type=int, default=20)
    parser.add_argument("--samplers", nargs="*", default=SAMPLERS)
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    print(
        f"{platform.machine()}, Python {platform.python_version()}, optuna {version('optuna')}, "
        f"numpy {version('numpy')}, moocore {version('moocore')}"
    )
    print(" ".join(sys.argv))
    within = True
    print(f"\na suggestion after {given.trials} finished trials")
    with tempfile.TemporaryDirectory() as folder:
        fill(Path(folder), given.trials)
        for sampler in given.samplers:
            copied = Path(folder) / sampler
            copied.mkdir()
            shutil.copy(Path(folder) / "search.jsonl", copied)
            times = suggestion(sampler, copied, given.trials, given.suggestions)
            print(line(sampler, times), flush=True)
            within &= statistics.median(times) < MOST_MS.get(sampler, float("inf"))
    print(f"\na decision on a rung of {given.records} trials")
    for objectives in (2, 3, 4):
        times = decision(objectives, given.records)
        print(line(f"{objectives} objectives", times), flush=True)
        within &= statistics.median(times) < MOST_MS["decision"]
    return 0 if within else 1


if __name__ == "__main__":
    sys.exit(main())
