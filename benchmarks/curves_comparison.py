"""Device seconds until a sweep has 95 % of the best hypervolume, where averages are points too.

A sweep of benchmarks/curves.yaml is simulated, 8 trials at once, on curves that are expected and
differ as recorded ones do (benchmarks/smoothed_curves.py, from a table that
benchmarks/record_curves.py wrote). A method is a way to choose the next trial, and how many
averages with the base are scored of each trained model:

    random+N, tpe+N     those samplers; any other search.sampler likewise
    botorch+N           search.sampler: botorch, which learns from the averages as well
    ends+N              the same, which learns from the trained models alone
    optuna+0            Tune's OptunaSearch
    botorch+N+asha      search.scheduler: asha; any other sampler likewise

Sweeps see scores with noise. They are measured without it, and the target is 95 % of the
hypervolume, without noise, of configurations all over the space and their averages.

    python benchmarks/curves_comparison.py TABLE OUT.jsonl [--repetitions 20] [--trials 120]
        [--methods optuna+0 botorch+3 ...]

``with foresight`` are the seconds if every trial that adds less than a thousandth to the true
hypervolume had been stopped after a third of its steps, and nothing been lost by it: what stopping
by any model can save at the most. The first 12 trials, which run before there is a model, run to
their end.

Each sweep is one line of OUT.jsonl as soon as it is over; the same command goes on where it
stopped. A sweep that does not get there counts with all of its trials.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
import warnings
from contextlib import AbstractContextManager
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from resumable import print_how, run_all
from search_efficiency import SHARE, SLOTS, samplers_of
from smoothed_curves import SmoothedCurves

from hft_ray.config import Config
from hft_ray.config.load import load, validate
from hft_ray.pareto.dominance import minimised
from hft_ray.pareto.hypervolume import hypervolume
from hft_ray.search import Study
from hft_ray.search.botorch_sampler import MOST_STARTUP, BotorchSampler
from hft_ray.search.simulate import simulate
from hft_ray.search.table import Curve, read_table

FILE = Path(__file__).parent / "curves.yaml"
ADDS = 1e-3
"""Share of the target that a trial has to add to count as useful."""
METHODS = ("random+3", "random+5", "optuna+0", "ends+5", "botorch+5")
BEST = {"task/score": 1.0, "forgetting/mean": 0.0}
"""The base knows all that is general here, so nothing can be forgotten any less."""


def ends_alone(*args: Any, readings: Any, base: Any, **given: Any) -> BotorchSampler:
    """Return the sampler without what makes it see averages."""
    return BotorchSampler(*args, **given)


def way(name: str, config: Config) -> AbstractContextManager[object]:
    """Replace the sampler of new studies by that of a method, in the ``with`` block."""
    if name == "ends":
        return patch("hft_ray.search.samplers.BotorchSampler", ends_alone)
    return samplers_of(name, config)


def configured(method: str, trials: int, seed: int) -> Config:
    name, averages, *scheduler = method.split("+")
    raw = load(FILE).model_dump(mode="json", exclude_unset=True)
    raw["search"] |= {
        "trials": trials,
        "seed": seed,
        "sampler": {"optuna": "tpe", "ends": "botorch"}.get(name, name),
        "scheduler": scheduler[0] if scheduler else "none",
        "variants": {"averages": int(averages), "half_reset": False, "steps": 0},
    }
    return validate(raw, str(FILE))


def sweep(path: Path, trials: int, method: str, seed: int) -> dict[str, Any]:
    """Run one sweep till it has found enough; return what it took."""
    config = configured(method, trials, seed)
    assert config.search is not None
    objectives, table = config.search.objectives, read_table(path, config)
    curves, worst = SmoothedCurves(config, table), table.worst(objectives)
    reference = minimised([worst], objectives)[0]
    target = SHARE * hypervolume(minimised(curves.every(), objectives), reference)
    found: list[dict[str, float]] = []
    best, seconds, foreseen, ended, began = 0.0, 0.0, 0.0, 0, time.process_time()
    params: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        with way(method.partition("+")[0], config):
            study = Study(config, Path(folder) / "search.jsonl")
        study.set_base_scores(table.base, worst, BEST)
        for event in simulate(study, curves, SLOTS, base=table.base):
            if event.kind == "submitted":
                params[event.trial] = event.details
            if event.kind == "finished":
                ended += 1
                seconds += event.details["seconds"]
                if event.details["state"] == "complete":
                    found += without_noise(curves, params[event.trial], event.details)
                before, best = best, hypervolume(minimised(found, objectives), reference)
                useful = best - before >= ADDS * target
                third = first_third(curves.mean(params[event.trial]))
                runs = useful or ended <= MOST_STARTUP
                foreseen += event.details["seconds"] if runs else third
                if best >= target:
                    break
    cost = (time.process_time() - began) / max(1, ended)
    share = SHARE * best / target
    return {
        "trials": ended,
        "device_seconds": seconds,
        "foreseen_seconds": foreseen,
        "share": share,
        "seconds": cost,
    }


def first_third(curve: Curve) -> float:
    """Return the seconds until a third of the steps are made and scored."""
    return next(point.seconds for point in curve if 3 * point.step >= curve[-1].step)


def without_noise(
    curves: SmoothedCurves, params: dict[str, Any], ended: dict[str, Any]
) -> list[dict[str, float]]:
    """Return what a trial yielded, without noise."""
    end = curves.mean(params)[-1]
    averages = [end.variants[each["variant"]].metrics for each in ended.get("variants", ())]
    return [end.metrics, *averages]


def paired(ours: dict[int, float], theirs: dict[int, float]) -> tuple[float, float, float]:
    """Return the ratio of the means over the seeds of both, and its 95 % interval by bootstrap."""
    seeds = sorted(ours.keys() & theirs.keys())
    a, b = (np.array([each[seed] for seed in seeds]) for each in (ours, theirs))
    draws = np.random.default_rng(0).integers(len(seeds), size=(4000, len(seeds)))
    low, high = np.quantile(a[draws].mean(axis=1) / b[draws].mean(axis=1), [0.025, 0.975])
    return float(a.mean() / b.mean()), float(low), float(high)


def show(lines: list[dict[str, Any]]) -> None:
    """Print means, and ratios of sweeps with the same seeds, which see the same noise."""
    methods = dict.fromkeys(each["method"] for each in lines)
    rows = {name: [each for each in lines if each["method"] == name] for name in methods}
    needed = {n: {x["seed"]: x["device_seconds"] for x in row} for n, row in rows.items()}
    for method, row in rows.items():
        print(
            f"{method:10} trials {statistics.mean(each['trials'] for each in row):6.1f}  "
            f"device seconds {statistics.mean(needed[method].values()):7.0f}  reached "
            f"{sum(each['share'] >= SHARE for each in row)}/{len(row)}  "
            f"{statistics.mean(each['seconds'] for each in row):.2f} s a suggestion  "
            f"{statistics.mean(each['foreseen_seconds'] for each in row):.0f} with foresight"
        )
        for other in methods:
            if other != method:
                ratio = paired(needed[method], needed[other])
                print("{:>20} {:.2f} [{:.2f}, {:.2f}]".format(f"/ {other}", *ratio))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("table", type=Path)
    parser.add_argument("out", type=Path, metavar="OUT.jsonl")
    parser.add_argument("--repetitions", type=int, default=20)
    parser.add_argument("--trials", type=int, default=120)
    parser.add_argument("--methods", nargs="*", default=METHODS)
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    jobs = [
        {"method": method, "seed": seed}
        for seed, method in product(range(given.repetitions), given.methods)
    ]
    lines = run_all(given.out, jobs, partial(sweep, given.table, given.trials))
    print_how()
    show(lines)
    return 0


if __name__ == "__main__":
    sys.exit(main())
