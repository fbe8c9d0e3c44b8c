"""Trials until a sweep has found 95 % of the best hypervolume, for several samplers side by side.

    random    random settings
    optuna    Tune's OptunaSearch: Optuna's TPE with its defaults for several objectives
    gp        Optuna's Gaussian process (search.sampler: gp)
    botorch   search.sampler: botorch

Eight trials run at once, each to its end, without noise. Problems: zdt1, zdt2 and dtlz2 of
benchmarks/search_efficiency.py; ``conditional``, in which a rank or a ratio exists by what the
adapter is, and each is better on one half of the front; ``categorical``, with 108 combinations of
choices beside two numbers.

    python benchmarks/sampler_comparison.py OUT.jsonl [--repetitions 3] [--trials 200]

Each sweep is one line of OUT.jsonl as soon as it is over; the same command goes on where it
stopped. It prints means and, against optuna, ratios with 95 % bootstrap intervals. A sweep that
does not get there counts with ``--trials``. Seconds are of the processor, for one suggestion.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from resumable import print_how, run_all
from search_efficiency import KEYS, RATE, SHARE, SLOTS, interval, problems, samplers_of

from hft_ray.config import Config
from hft_ray.config.load import validate
from hft_ray.pareto.hypervolume import hypervolume
from hft_ray.search import Study
from hft_ray.search.simulate import simulate
from hft_ray.search.table import Curve, CurvePoint

METHODS = ("random", "optuna", "gp", "botorch")
UNIT = {"low": 0.0001, "high": 0.9999}
RATES = {"low": 1e-6, "high": 1e-3, "log": True}
Values = Callable[[Mapping[str, Any]], np.ndarray]


@dataclass(frozen=True)
class Case:
    """A space, its objectives (minimised; 2 is worth nothing), and the front that can be had."""

    space: dict[str, Any]
    values: Values
    front: np.ndarray


def place(rate: float) -> float:
    return float(np.log10(rate) / 3 + 2)


def convex(first: float, g: float) -> np.ndarray:
    return np.array([first, g * (1 - np.sqrt(first / g))])


def conditional(params: Mapping[str, Any]) -> np.ndarray:
    lora = params["adapter.kind"] == "lora"
    first = np.log2(params["adapter.rank"]) / 7 if lora else params["selection.ratio"]
    wanted = 0.7 if lora else 0.3
    off = [place(params[RATE]) - wanted, params["training.weight_decay"] - 0.4]
    if lora:
        off.append(params["adapter.dropout"] / 0.5 - 0.4)
    values = convex(first, 1 + 9 * float(np.mean(np.square(off))))
    values[1] += 0.3 if lora != (first < 0.5) else 0.0
    return values


CONDITIONAL = {
    "adapter.kind": ["none", "lora"],
    "adapter.rank": {"low": 1, "high": 128, "log": True, "when": {"adapter.kind": "lora"}},
    "adapter.dropout": {"low": 0.0, "high": 0.5, "when": {"adapter.kind": "lora"}},
    "selection.ratio": {**UNIT, "when": {"adapter.kind": "none"}},
    "training.weight_decay": UNIT,
    RATE: RATES,
}
BEST: dict[str, list[Any]] = {
    "selection.granularity": ["category", "layer", "model"],
    "training.schedule": ["cosine", "linear", "constant"],
    "selection.embeddings": ["selected", "trained", "frozen"],
    "training.batch_size": [16, 8, 32, 64],
}
"""Choices, the best first."""


def categorical(params: Mapping[str, Any]) -> np.ndarray:
    losses = [0.1 * BEST[key].index(params[key]) for key in BEST]
    off = float(np.mean([*losses, 3 * (place(params[RATE]) - 0.4) ** 2]))
    return convex(params["selection.ratio"], 1 + 9 * off)


def cases() -> dict[str, Case]:
    unit = dict.fromkeys(KEYS, UNIT)
    found = {}
    for each in problems():

        def values(params: Mapping[str, Any], of: Any = each.values) -> np.ndarray:
            return np.asarray(of(np.array([*(params[key] for key in KEYS), place(params[RATE])])))

        found[each.name] = Case({**unit, RATE: RATES}, values, each.front)
    line = [convex(x, 1.0) for x in np.linspace(0, 1, 500)]
    ratios = ({"adapter.kind": "none", "selection.ratio": x} for x in np.linspace(0, 1, 500))
    ranks = ({"adapter.kind": "lora", "adapter.rank": n} for n in range(1, 129))
    rest = {"training.weight_decay": 0.4, "adapter.dropout": 0.2}
    ends = [
        conditional({**each, **rest, RATE: 10 ** (3 * (wanted - 2))})
        for some, wanted in ((ratios, 0.3), (ranks, 0.7))
        for each in some
    ]
    found["conditional"] = Case(CONDITIONAL, conditional, np.array(ends))
    space = {**BEST, "selection.ratio": UNIT, RATE: RATES}
    found["categorical"] = Case(space, categorical, np.array(line))
    return found


class Ends:
    """What each trial gives at once, after a time that differs from trial to trial."""

    def __init__(self, case: Case, seed: int) -> None:
        self._case, self._seed = case, seed

    def curve(self, trial: str, params: Mapping[str, Any]) -> Curve:
        rng = np.random.default_rng([self._seed, int(trial[1:])])
        values = enumerate(self._case.values(params))
        metrics = {f"task/f{place}": float(value) for place, value in values}
        return [CurvePoint(1, metrics, float(rng.uniform(0.8, 1.2)))]


def configured(case: Case, method: str, trials: int, seed: int) -> Config:
    names = [f"task/f{place}" for place in range(case.front.shape[1])]
    search = {
        "space": case.space,
        "objectives": dict.fromkeys(names, "min"),
        "reference_point": dict.fromkeys(names, 2.0),
        "trials": trials,
        "sampler": "tpe" if method == "optuna" else method,
        "seed": seed,
    }
    raw = {"name": "s", "model": "m", "data": {"train": "d.jsonl"}, "search": search}
    return validate({**raw, "training": {"steps": 1}}, "FILE")


def sweep(trials: int, problem: str, method: str, seed: int) -> dict[str, Any]:
    """Run one sweep till it has found enough; return what it took."""
    case = cases()[problem]
    reference = np.full(case.front.shape[1], 2.0)
    target = SHARE * hypervolume(case.front, reference)
    ended: list[list[float]] = []
    best, began = 0.0, time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        config = configured(case, method, trials, seed)
        with samplers_of(method, config):
            study = Study(config, Path(folder) / "search.jsonl")
        for event in simulate(study, Ends(case, seed), SLOTS):
            if event.kind == "finished":
                ended.append(list(event.details["values"].values()))
                best = hypervolume(np.array(ended), reference)
                if best >= target:
                    break
    seconds = (time.process_time() - began) / (len(ended) + SLOTS)
    share = SHARE * best / target
    return {"trials": len(ended), "reached": best >= target, "share": share, "seconds": seconds}


def show(lines: list[dict[str, Any]]) -> None:
    for name in dict.fromkeys(each["problem"] for each in lines):
        mine = [each for each in lines if each["problem"] == name]
        print(f"\n{name}: trials to {SHARE:.0%} of the best hypervolume")
        rows = {m: [each for each in mine if each["method"] == m] for m in METHODS}
        for method, row in rows.items():
            if not row:
                continue
            needed = [each["trials"] for each in row]
            text = (
                f"  {method:8} mean {statistics.mean(needed):6.1f}  median "
                f"{statistics.median(needed):6.1f}  reached "
                f"{sum(each['reached'] for each in row)}/{len(row)}"
                f"  {statistics.mean(each['seconds'] for each in row):6.3f} s"
            )
            if rows["optuna"] and method not in ("random", "optuna"):
                theirs = [each["trials"] for each in rows["optuna"]]
                text += "  / optuna {:.2f} [{:.2f}, {:.2f}]".format(*interval(needed, theirs))
            print(text)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, metavar="OUT.jsonl")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--problems", nargs="*", default=list(cases()))
    parser.add_argument("--methods", nargs="*", default=METHODS)
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    jobs = [
        {"problem": problem, "method": method, "seed": seed}
        for seed, problem, method in product(
            range(given.repetitions), given.problems, given.methods
        )
    ]
    lines = run_all(given.out, jobs, partial(sweep, given.trials))
    print_how()
    show(lines)
    return 0


if __name__ == "__main__":
    sys.exit(main())
