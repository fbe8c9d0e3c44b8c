"""What variants add to a front: hypervolume of the same trained runs with and without them.

Reads a finished sweep from tracking. A variant's cost is the time that making and scoring it took,
which MLflow has (``cost/device_seconds``, on top of its trial's).

    hft-ray tune search_spaces/demo.yaml
    python benchmarks/variant_gain.py demo
"""

from __future__ import annotations

import argparse
import platform
from importlib.metadata import version
from pathlib import Path

from hft_ray.orchestration.fronts import front_from_tracking
from hft_ray.pareto import Front, Point, build_front
from hft_ray.storage_root import storage_root
from hft_ray.tracking import tracking_uri

COST = "cost/device_seconds"


def hypervolume(front: Front, points: list[Point]) -> float:
    """Return the hypervolume of some of the points of ``front``."""
    built = build_front(front.sweep, front.objectives, points, front.base, front.reference_point)
    return built.hypervolume


def kind(point: Point) -> str:
    """Return trained, alpha, reset or step."""
    return "trained" if point.variant is None else point.variant.partition("-")[0]


def main() -> None:
    """Print the gain of each kind of variant, alone and together, with its cost."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name")
    parser.add_argument("--storage", type=Path, default=None)
    given = parser.parse_args()
    root = storage_root(given.storage)
    front = front_from_tracking(tracking_uri(None, root), "hft-ray", given.name)
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "deepspeed", "moocore"))
    print(f"{platform.machine()}, Python {platform.python_version()}, {versions}")
    trained = [point for point in front.points if kind(point) == "trained"]
    cost = {point.trial: point.values.get(COST, 0.0) for point in trained}
    alone = hypervolume(front, trained)
    print(f"{len(trained)} trained models: hypervolume {alone:.4f}, {sum(cost.values()):.0f} s")
    for kinds in (("alpha",), ("reset",), ("step",), ("alpha", "reset", "step")):
        more = [point for point in front.points if kind(point) in kinds]
        if not more:
            continue
        both = hypervolume(front, [*trained, *more])
        # A model on the way costs nothing more: it was scored in training.
        extra = sum(max(0.0, p.values.get(COST, 0.0) - cost[p.trial]) for p in more)
        print(
            f"with {len(more)} of {' + '.join(kinds)}: hypervolume {both:.4f} "
            f"({both / alone - 1:+.1%}), {extra:.0f} s more ({extra / sum(cost.values()):+.0%})"
        )


if __name__ == "__main__":
    main()
