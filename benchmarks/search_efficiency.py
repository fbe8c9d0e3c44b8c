"""Training steps until a sweep has found 95 % of the best hypervolume, for several ways to search.

    random      random settings, every trial to its end
    optuna      Tune's OptunaSearch: Optuna's TPE with its defaults for several objectives
    ours        search.sampler: tpe, every trial to its end
    ours+asha   the same with search.scheduler: asha

``--methods`` takes any other ``search.sampler`` too, alone or with ``+asha``.

Each runs as a simulated sweep (virtual time, 8 trials at once) on problems whose fronts are known:
the fronts of ZDT1 and ZDT2 (Zitzler et al., "Comparison of multiobjective evolutionary algorithms",
2000) and of DTLZ2 with three objectives (Deb et al., "Scalable test problems", 2005), five settings
each. The best settings lie inside the space (ZDT's own lie in its corner, where one method hits
them by rounding and another never). Learning curves lead from a common start to each setting's
values: slow and fast learners, whose curves cross, and noise that shrinks as training goes on.
``--table`` adds recorded curves; their best hypervolume is that of all of them together.

    python benchmarks/search_efficiency.py [--repetitions 20] [--trials 300] [--table FILE TABLE]

Prints the mean, the median and quartiles over the repetitions, and the ratio of the mean to that of
optuna with a 95 % bootstrap interval. A sweep that does not get there counts with all of its steps,
those of ``--trials`` whole trials.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import optuna

from hft_ray.config import Config
from hft_ray.config.load import load, validate
from hft_ray.pareto.dominance import minimised
from hft_ray.pareto.hypervolume import hypervolume
from hft_ray.search import Study
from hft_ray.search.simulate import Curves, simulate
from hft_ray.search.table import Curve, CurvePoint, read_table

STEPS, EVERY, SLOTS, SHARE = 270, 10, 8, 0.95
KEYS = ("selection.ratio", "training.weight_decay", "training.warmup", "training.max_grad_norm")
RATE = "training.learning_rate"
METHODS = ("random", "optuna", "ours", "ours+asha")


@dataclass(frozen=True)
class Problem:
    """Objectives at the end of training, as functions of settings in [0, 1], minimised."""

    name: str
    objectives: int
    values: Callable[[np.ndarray], np.ndarray]
    front: np.ndarray


def zdt(curved: bool) -> Callable[[np.ndarray], np.ndarray]:
    def values(x: np.ndarray) -> np.ndarray:
        g = 1 + 9 * ((x[1:] - 0.4) ** 2).mean()
        ratio = x[0] / g
        return np.array([x[0], g * (1 - (ratio**2 if curved else np.sqrt(ratio)))])

    return values


def dtlz2(x: np.ndarray) -> np.ndarray:
    g = ((x[2:] - 0.5) ** 2).sum()
    a, b = x[:2] * np.pi / 2
    spread = np.array([np.cos(a) * np.cos(b), np.cos(a) * np.sin(b), np.sin(a)])
    return np.asarray((1 + g) * spread)


def problems() -> list[Problem]:
    line = np.linspace(0, 1, 500)
    ends = [np.stack([line, 1 - np.sqrt(line)], 1), np.stack([line, 1 - line**2], 1)]
    grid = np.stack(np.meshgrid(np.linspace(0, 1, 40), np.linspace(0, 1, 40)), -1).reshape(-1, 2)
    sphere = np.array([dtlz2(np.array([*each, 0.5, 0.5, 0.5])) for each in grid])
    return [
        Problem("zdt1", 2, zdt(False), ends[0]),
        Problem("zdt2", 2, zdt(True), ends[1]),
        Problem("dtlz2", 3, dtlz2, sphere),
    ]


class Learning:
    """Learning curves toward a problem's values.

    At step s the share of the way that is left is (1 - s / STEPS) ** speed, the speed between 3 and
    5 by the settings: who learns faster looks better for a while. Ranks on the first rung agree
    with those at the end by Kendall's tau of 0.4 to 0.8, on the third by 0.8 to 0.95.
    """

    def __init__(self, problem: Problem, seed: int) -> None:
        self._problem, self._seed = problem, seed
        self._start = np.full(problem.objectives, 2.0)
        self._direction = np.random.default_rng(5).normal(size=5)

    def curve(self, trial: str, params: Mapping[str, Any]) -> Curve:
        x = np.array([params[key] for key in KEYS] + [np.log10(params[RATE]) / 3 + 2])
        end = self._problem.values(x)
        speed = 3 + 2 / (1 + np.exp(-3 * self._direction @ (x - 0.5)))
        rng = np.random.default_rng([self._seed, int(trial[1:])])
        scores = []
        for step in range(EVERY, STEPS + 1, EVERY):
            left = (1 - step / STEPS) ** speed
            noise = rng.normal(scale=0.05, size=len(end)) * left
            values = end + left * (self._start - end) + noise
            metrics = {f"task/f{i}": float(value) for i, value in enumerate(values)}
            scores.append(CurvePoint(step, metrics, float(step)))
        return scores


def synthetic(problem: Problem, method: str, trials: int, seed: int) -> Config:
    unit = {"low": 0.0001, "high": 0.9999}
    return validate(
        {
            "name": "s",
            "model": "m",
            "data": {"train": "d.jsonl"},
            "training": {"steps": STEPS},
            "evaluation": {"every": EVERY},
            "search": {
                "space": {
                    **dict.fromkeys(KEYS, unit),
                    RATE: {"low": 1e-6, "high": 1e-3, "log": True},
                },
                "objectives": {f"task/f{i}": "min" for i in range(problem.objectives)},
                "trials": trials,
                **way(method, seed),
            },
        },
        "FILE",
    )


def way(method: str, seed: int) -> dict[str, Any]:
    """Return the part of ``search`` that a method is."""
    name, _, scheduler = method.partition("+")
    return {
        "sampler": {"optuna": "tpe", "ours": "tpe"}.get(name, name),
        "scheduler": scheduler or "none",
        "seed": seed,
    }


def steps_needed(
    config: Config, curves: Curves, method: str, target: float, volume: Callable[[Any], float]
) -> tuple[int, float]:
    """Run a sweep; return the steps of all its trials till the target is reached, and its share.

    The sweep ends there, or when it has made as many steps as ``search.trials`` whole trials.
    """
    assert config.search is not None and config.training.steps is not None
    budget, used, best = config.search.trials * config.training.steps, 0, 0.0
    at: dict[str, int] = {}
    front: list[Mapping[str, float]] = []
    # A sweep that stops trials early has more of them for the same steps.
    config = config.model_copy(
        update={"search": config.search.model_copy(update={"trials": 100 * config.search.trials})}
    )
    with tempfile.TemporaryDirectory() as folder:
        with samplers_of(method, config):
            study = Study(config, Path(folder) / "search.jsonl")
        for event in simulate(study, curves, SLOTS):
            if event.kind == "report":
                used += event.step - at.get(event.trial, 0)
                at[event.trial] = event.step
            elif event.kind == "finished" and event.details["state"] == "complete":
                front.append(event.details["values"])
                best = volume(front)
            if best >= target or used >= budget:
                break
    return used, best / target


def samplers_of(method: str, config: Config) -> AbstractContextManager[object]:
    """Replace the sampler of new studies by that of a method, in the ``with`` block.

    That of ``optuna`` is what Tune's OptunaSearch makes.
    """
    if method != "optuna":
        return nullcontext()
    assert config.search is not None
    plain = optuna.samplers.TPESampler(seed=config.search.seed)
    return patch("hft_ray.search.study.ArmSampler", lambda searches: plain)


def one(job: tuple[str, str, int, int, tuple[str, str] | None]) -> tuple[str, str, int, float]:
    """Run one sweep of one method."""
    name, method, trials, seed, recorded = job
    warnings.simplefilter("ignore")
    if recorded is None:
        problem = next(each for each in problems() if each.name == name)
        config = synthetic(problem, method, trials, seed)
        assert config.search is not None
        curves: Curves = Learning(problem, seed)
        reference, best = np.full(problem.objectives, 2.0), problem.front
        objectives = config.search.objectives
    else:
        file, table_path = map(Path, recorded)
        config = load(file)
        raw = config.model_dump(mode="json", exclude_unset=True)
        raw["search"] |= {"trials": trials, "first": [], **way(method, seed)}
        config = validate(raw, str(file))
        assert config.search is not None
        table = curves = read_table(table_path, config)
        objectives = config.search.objectives
        worst = table.worst(objectives) | (config.search.reference_point or {})
        reference = minimised([worst], objectives)[0]
        best = minimised(table.ends(), objectives)
    target = SHARE * hypervolume(best, reference)

    def volume(seen: Sequence[Mapping[str, float]]) -> float:
        return hypervolume(minimised(seen, objectives), reference)

    return (name, method, *steps_needed(config, curves, method, target, volume))


def interval(ours: Sequence[int], theirs: Sequence[int]) -> tuple[float, float, float]:
    """Return the ratio of the mean steps, and its 95 % interval by bootstrap over repetitions."""
    rng = np.random.default_rng(0)
    a, b = np.array(ours, float), np.array(theirs, float)
    draws = [rng.choice(a, len(a)).mean() / rng.choice(b, len(b)).mean() for _ in range(4000)]
    low, high = np.quantile(draws, [0.025, 0.975])
    return float(a.mean() / b.mean()), float(low), float(high)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=20)
    parser.add_argument("--trials", type=int, default=300)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--table", nargs=2, metavar=("FILE", "TABLE"), default=None)
    parser.add_argument("--problems", nargs="*", default=[each.name for each in problems()])
    parser.add_argument("--methods", nargs="*", default=METHODS)
    parser.add_argument("--json", type=Path, default=None, help="write the figures there too")
    given = parser.parse_args()
    cases: list[tuple[str, tuple[str, str] | None]] = [(name, None) for name in given.problems]
    if given.table:
        cases.append(("recorded", tuple(given.table)))
    started = time.monotonic()
    rows: dict[str, dict[str, list[tuple[int, float]]]] = {}
    jobs = [
        (name, method, given.trials, seed, recorded)
        for name, recorded in cases
        for seed in range(given.repetitions)
        for method in given.methods
    ]
    with ProcessPoolExecutor(given.processes) as pool:
        for name, method, steps, share in pool.map(one, jobs):
            rows.setdefault(name, {}).setdefault(method, []).append((steps, share))
    print(f"{platform.machine()}, Python {platform.python_version()}, optuna {version('optuna')}")
    print(f"{' '.join(sys.argv)}: {time.monotonic() - started:.0f} s")
    for name, methods in rows.items():
        print(f"\n{name}: steps to {SHARE:.0%} of the best hypervolume, {given.repetitions} sweeps")
        for method, results in methods.items():
            needed = sorted(each for each, _ in results)
            reached = sum(share >= 1 for _, share in results)
            low, middle, high = statistics.quantiles(needed * (2 if len(needed) == 1 else 1), n=4)
            print(
                f"  {method:10} mean {statistics.mean(needed):8.0f}  median {middle:8.0f}  "
                f"quartiles {low:8.0f} {high:8.0f}  reached {reached}/{len(needed)}  "
                f"at the end {SHARE * statistics.mean(share for _, share in results):.3f}"
            )
        for method in methods:
            if "optuna" in methods and method not in ("random", "optuna"):
                pairs = [[each for each, _ in methods[m]] for m in (method, "optuna")]
                print("  {} / optuna: {:.2f} [{:.2f}, {:.2f}]".format(method, *interval(*pairs)))
    if given.json:
        given.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
