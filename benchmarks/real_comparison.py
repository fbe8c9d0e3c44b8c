"""Ours against Optuna's plain TPE on the demo, with real training and the same wall time.

    python benchmarks/real_comparison.py [--pairs 3] [--minutes 12] [--picture docs/hypervolume.png]

The two sweeps of a pair run ``benchmarks/curves.yaml`` side by side, each with one group of one
core and the seed of the pair:

    optuna   what Tune's OptunaSearch does: Optuna's TPE with its defaults, every trial to its end,
             one point of the front for each
    ours     the defaults: search.sampler and search.variants as they are without a setting

No trial begins after the minutes are over. Hypervolumes are those that each sweep writes to its
``events.jsonl``, of one reference point; time counts from the start of a sweep's first trial. Then
``hft-ray compare`` of the last pair. The storage root is that of hft-ray (``HFT_RAY_HOME``); a
second run goes on with what the first left.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import optuna
from resumable import print_how

from hft_ray.cli import main as hft_ray
from hft_ray.config import Search
from hft_ray.orchestration.folder import SweepFolder
from hft_ray.search import arm_search
from hft_ray.storage_root import storage_root

FILE = Path(__file__).with_name("curves.yaml")
METHODS = {"optuna": {"search.variants": "{averages: 0, half_reset: false}"}, "ours": {}}
COLORS = {"optuna": "0.55", "ours": "C0"}
Curve = list[tuple[float, float]]
"""Seconds and the hypervolume from then on."""


def plain(search: Search, *rest: object) -> optuna.samplers.BaseSampler:
    """Return what Tune's OptunaSearch makes."""
    return optuna.samplers.TPESampler(seed=search.seed)


def name_of(method: str, pair: int) -> str:
    return f"real-{method}-{pair}"


def tune(method: str, pair: int, minutes: float) -> None:
    """Run one sweep in this process."""
    if method == "optuna":
        arm_search.make_sampler = plain  # type: ignore[attr-defined, assignment]
    changes = {
        "name": name_of(method, pair),
        **METHODS[method],
        "evaluation.every": "null",
        "search.seed": str(pair),
        "search.trials": "500",
        "search.budget": f"{{hours: {minutes / 60:.4f}}}",
        "cluster": "{groups: 1, workers: 1, cpus_per_worker: 1}",
    }
    given = [f"--set={key}={value}" for key, value in changes.items()]
    sys.argv = ["hft-ray", "tune", str(FILE), *given]
    hft_ray()


def run_pair(pair: int, minutes: float) -> bool:
    """Run the sweeps of a pair side by side; return whether both ended well."""
    command = [sys.executable, __file__, "--minutes", str(minutes), "--only", str(pair)]
    sweeps = [subprocess.Popen([*command, "--method", method]) for method in METHODS]
    codes = [sweep.wait() for sweep in sweeps]
    return not any(codes)


def curve(name: str) -> tuple[Curve, int]:
    """Return a sweep's hypervolume over time, and how many trials it completed."""
    lines = SweepFolder(storage_root(None), name).events.read_text("utf-8").splitlines()
    events = [json.loads(line) for line in lines]
    start = next(each["time"] for each in events if each["event"] == "started")
    found: Curve = [(0.0, 0.0)]
    found += [
        (each["time"] - start, each["hypervolume"])
        for each in events
        if each["event"] == "front_changed"
    ]
    return found, sum(each.get("state") == "complete" for each in events)


def reached(at: Curve, value: float) -> float:
    """Return the seconds after which a curve has a value; infinity if it never has."""
    return next((seconds for seconds, found in at if found >= value), float("inf"))


def picture(curves: dict[str, list[Curve]], end: float, path: Path) -> None:
    """Draw the hypervolumes over time."""
    figure, axes = plt.subplots(figsize=(7.2, 3.6), layout="constrained")
    labels = {"optuna": "OptunaSearch", "ours": "hft-ray's defaults"}
    for method, each in curves.items():
        for number, one in enumerate(each):
            seconds, values = zip(*one, (end, one[-1][1]), strict=True)
            minutes = [x / 60 for x in seconds]
            style = {"c": COLORS[method], "lw": 1.8, "where": "post"}
            axes.step(minutes, values, label=labels[method] if number == 0 else None, **style)
    axes.set(xlabel="minutes since the first trial began", ylabel="hypervolume", ylim=(0, None))
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="lower right")
    figure.savefig(path, dpi=110)


def show(pairs: int, path: Path | None) -> None:
    """Print what the pairs came to, and draw it."""
    curves: dict[str, list[Curve]] = {method: [] for method in METHODS}
    print("| pair | OptunaSearch: trials | hypervolume | ours: trials | hypervolume | time ratio |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    ratios = []
    for pair in range(pairs):
        (theirs, trained), (ours, made) = (curve(name_of(each, pair)) for each in METHODS)
        curves["optuna"].append(theirs)
        curves["ours"].append(ours)
        final = theirs[-1][1]
        ratios.append(reached(ours, final) / reached(theirs, final))
        print(
            f"| {pair} | {trained} | {final:.3f} | {made} | {ours[-1][1]:.3f} | {ratios[-1]:.2f} |"
        )
    print(
        f"\nTime until ours has OptunaSearch's last value, of that which OptunaSearch took: "
        f"median {statistics.median(ratios):.2f}"
    )
    if path is not None:
        end = max(one[-1][0] for each in curves.values() for one in each)
        picture(curves, end, path)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=12.0)
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--method", choices=METHODS, help="one sweep alone, of the pair --only")
    parser.add_argument("--only", type=int)
    given = parser.parse_args()
    if given.method:
        tune(given.method, given.only, given.minutes)
        return 0
    print_how()
    for pair in range(given.pairs):
        if not run_pair(pair, given.minutes):
            return 1
    show(given.pairs, given.picture)
    sys.argv = ["hft-ray", "compare", *(name_of(each, given.pairs - 1) for each in METHODS)]
    hft_ray()
    return 0


if __name__ == "__main__":
    sys.exit(main())
