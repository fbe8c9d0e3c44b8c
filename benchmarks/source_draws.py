"""What the half that ``source`` chooses is worth, against random halves.

    hft-ray tune benchmarks/source_draws.yaml --storage ROOT
    python benchmarks/source_draws.py source-draws --storage ROOT

Every trained model is worth the hypervolume of its curve: itself and its averages with the base.
Prints mean and deviation of each arm, over five draws for ``hft`` and over five orders of the data
for the others, and Welch's 95 % interval of the difference to ``hft``. Items are common to all
models, so that their error, which is not in it, is nearly the same for all.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path
from statistics import fmean, stdev

from resumable import print_how
from scipy import stats

from hft_ray.orchestration.fronts import front_from_tracking
from hft_ray.pareto import Front, build_front
from hft_ray.storage_root import storage_root
from hft_ray.tracking import tracking_uri

DRAWN = "hft"


def worth(front: Front) -> dict[str, list[float]]:
    """Return arm -> the hypervolume of each of its models' curves."""
    curves = defaultdict(list)
    for point in front.points:
        curves[point.arm, point.trial].append(point)
    found = defaultdict(list)
    for (arm, _), points in curves.items():
        own = build_front("", front.objectives, points, front.base, front.reference_point)
        found[str(arm)].append(float(own.hypervolume))
    return dict(found)


def main() -> None:
    """Print a row for each arm."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name")
    parser.add_argument("--storage", type=Path)
    given = parser.parse_args()
    root = storage_root(given.storage)
    front = front_from_tracking(tracking_uri(None, root), "hft-ray", given.name)
    values = worth(front)
    print_how()
    print("| arm | models | hypervolume | deviation | minus random halves [95 % CI] |")
    print("| --- | ---: | ---: | ---: | --- |")
    for arm, own in values.items():
        apart = ""
        if arm != DRAWN:
            test = stats.ttest_ind(own, values[DRAWN], equal_var=False).confidence_interval(0.95)
            middle = fmean(own) - fmean(values[DRAWN])
            apart = f"{middle:+.4f} [{test.low:+.4f}, {test.high:+.4f}]"
        print(f"| {arm} | {len(own)} | {fmean(own):.4f} | {stdev(own):.4f} | {apart} |")


if __name__ == "__main__":
    main()
