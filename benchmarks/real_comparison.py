"""Ours against Optuna's plain TPE on the demo, with real training and the same wall time.

    python benchmarks/real_comparison.py [--minutes 10]

Two sweeps of ``benchmarks/curves.yaml`` run side by side, each with one group of one core:

    real-optuna   what Tune's OptunaSearch does: Optuna's TPE with its defaults, every trial to its
                  end, one point of the front for each
    real-ours     search.sampler: tpe with search.scheduler: asha, scored every 27 of 81 steps, and
                  with the further points of each trained model that search.variants makes by
                  default: averages with the base, the half-reset, the models on the way

Both train up to two seeds of what is near the front, so that the comparison has an interval. No
trial begins after the minutes are over. Then ``hft-ray compare`` of the two. The storage root is
that of hft-ray (``HFT_RAY_HOME``); a second run goes on with what the first left.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import optuna

from hft_ray.cli import main as hft_ray
from hft_ray.config import Search
from hft_ray.search import arm_search

FILE = Path(__file__).with_name("curves.yaml")
METHODS = {
    "optuna": {
        "evaluation.every": "null",
        "search.variants": "{averages: 0, half_reset: false}",
    },
    "ours": {"evaluation.every": "27", "search.scheduler": "asha"},
}


def plain(search: Search, *rest: object) -> optuna.samplers.BaseSampler:
    """Return what Tune's OptunaSearch makes."""
    return optuna.samplers.TPESampler(seed=search.seed)


def tune(method: str, minutes: float) -> None:
    """Run one sweep in this process."""
    if method == "optuna":
        arm_search.make_sampler = plain  # type: ignore[attr-defined, assignment]
    changes = {
        "name": f"real-{method}",
        **METHODS[method],
        "search.trials": "1000",
        "search.seeds": "2",
        "search.budget": f"{{hours: {minutes / 60:.4f}}}",
        "cluster": "{groups: 1, workers: 1, cpus_per_worker: 1}",
    }
    given = [f"--set={key}={value}" for key, value in changes.items()]
    sys.argv = ["hft-ray", "tune", str(FILE), *given]
    hft_ray()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--method", choices=METHODS, help="one of the two sweeps alone")
    given = parser.parse_args()
    if given.method:
        tune(given.method, given.minutes)
        return 0
    command = [sys.executable, __file__, "--minutes", str(given.minutes), "--method"]
    sweeps = [subprocess.Popen([*command, method]) for method in METHODS]
    codes = [sweep.wait() for sweep in sweeps]
    if any(codes):
        return 1
    names = [f"real-{method}" for method in METHODS]
    sys.argv = ["hft-ray", "compare", *names]
    hft_ray()
    return 0


if __name__ == "__main__":
    sys.exit(main())
