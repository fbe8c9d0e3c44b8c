"""Methods side by side, over seeds: does anything keep more than averages of full fine-tuning?

Reads finished sweeps of search_spaces/demo_arms.yaml from tracking, which differ in
``training.seed`` alone, and so have the same configurations. A method is its arm: the mean over
the seeds of each of its trained models and of their averages with the base.

    for seed in 0 1 2; do
      hft-ray tune search_spaces/demo_arms.yaml --storage ROOT --set name=arms-$seed \
          --set training.seed=$seed
    done
    python benchmarks/methods.py arms-0 arms-1 arms-2 --storage ROOT

Prints of each arm the hypervolume and, at some task scores, what is forgotten at the least; each
minus the same of full fine-tuning and its averages, with the 95 % interval of the difference: over
items, which all answer alike, and seeds. Then the time of a step by token, as a ratio to that of
full fine-tuning in the same sweeps: the median of each arm's trials.
"""

from __future__ import annotations

import argparse
import platform
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from statistics import median

from hft_ray.orchestration.fronts import config_of, front_of
from hft_ray.pareto import ArmTable, Front, Point, arm_fronts, build_front, compare, merged
from hft_ray.pareto.matching import matches
from hft_ray.pareto.uncertainty import IntervalEstimate
from hft_ray.storage_root import storage_root
from hft_ray.tracking import SweepRecord, read_sweep, tracking_uri

FULL, TOKENS = "full", "train/tokens_per_second"


def together(fronts: Sequence[Front]) -> Front:
    """Return the sweeps as one, in which a trial of each is a seed of one configuration."""
    points = [
        replace(point, trial=f"{point.trial}.{seed}", configuration=point.trial)
        for seed, front in enumerate(fronts)
        for point in front.points
    ]
    one = fronts[0]
    return build_front("methods", one.objectives, points, one.base, one.reference_point)


def told(found: IntervalEstimate | None) -> str:
    """Return a difference with its 95 % interval."""
    if found is None:
        return "-"
    low, high = found.interval()
    sure = "*" if low > 0 or high < 0 else " "
    return f"{found.value:+.3f} [{low:+.3f}, {high:+.3f}]{sure}"


def rows(front: Front, levels: Sequence[float]) -> list[list[str]]:
    """Return a row for each arm, those that are worth most first."""
    arms = {name: own for name, own in arm_fronts(front).items() if name is not None}
    means = {
        name: build_front(name, own.objectives, merged(own.points), own.base, own.reference_point)
        for name, own in arms.items()
    }
    found = list(means.values())
    (match,) = matches(found, levels)
    everything: list[Point] = merged(front.points)
    table = ArmTable(tuple(found), (match,), tuple(everything))
    shown = []
    for place, (name, own) in enumerate(means.items()):
        ahead = None
        if name != FULL:
            ahead = compare([arms[name], arms[FULL]]).differences[0].estimate
        row = [name, str(len(own.points)), f"{own.hypervolume:.3f}", told(ahead)]
        for cells in match.cells:
            cell = cells[place]
            least = "not reached" if cell is None else f"{cell.values[match.objective]:.3f}"
            row += [least, told(table.difference(match, cells, place))]
        shown.append((own.hypervolume, row))
    return [row for _, row in sorted(shown, key=lambda each: -each[0])]


def step_times(records: Sequence[SweepRecord]) -> list[list[str]]:
    """Return a row for each arm: its trials, and the median time of a token, full's being 1."""
    speeds: dict[str, list[float]] = {}
    for record in records:
        for trial in record.trials:
            if TOKENS in trial.metrics:
                speeds.setdefault(str(trial.params["arm"]), []).append(trial.metrics[TOKENS])
    medians = {arm: median(own) for arm, own in speeds.items()}
    quickest = sorted(medians, key=lambda arm: -medians[arm])
    return [[a, str(len(speeds[a])), f"{medians[FULL] / medians[a]:.3f}"] for a in quickest]


def show(table: Sequence[Sequence[str]]) -> None:
    """Print rows in columns."""
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    for row in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)))


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="+")
    parser.add_argument("--storage", type=Path, default=None)
    parser.add_argument("--levels", type=float, nargs="+", default=[0.9, 0.7, 0.5])
    given = parser.parse_args()
    root = storage_root(given.storage)
    uri = tracking_uri(None, root)
    records = [read_sweep(uri, "hft-ray", name) for name in given.names]
    fronts = [front_of(record, config_of(record)) for record in records]
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "deepspeed", "moocore"))
    print(f"{platform.machine()}, Python {platform.python_version()}, {versions}")
    heads = ["arm", "points", "hypervolume", "minus full"]
    heads += [text for level in given.levels for text in (f"forgotten at {level:g}", "minus full")]
    show([heads, *rows(together(fronts), given.levels)])
    print()
    show([["arm", "trials", "time of a step"], *step_times(records)])


if __name__ == "__main__":
    main()
