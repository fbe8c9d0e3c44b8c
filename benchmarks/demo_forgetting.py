"""The demo's claim: at full fine-tuning's task score, the best HFT setting forgets less.

Trains ``search_spaces/demo.yaml`` for 150 steps with two settings and several seeds of the data
order, each as ``hft-ray train``, and prints what each seed gave, the means in points of 100, and
the 95 % interval of their difference, over items and seeds.

    python benchmarks/demo_forgetting.py [--seeds 3]

Exits with 1 when the task scores are more than 2 points apart, or the gain is not surely above 10.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

from hft_ray.config import STDERR
from hft_ray.item_scores import BASE, SUFFIX, Answers, Sample, read_one
from hft_ray.pareto import Point, merged, noise_of, seed_covariance

FILE = Path(__file__).parent.parent / "search_spaces" / "demo.yaml"
SETTINGS = {
    "full fine-tuning": ["selection.ratio=1.0", "training.learning_rate=3.0e-4"],
    "half of the layers": [
        "selection.ratio=0.5",
        "selection.granularity=layer",
        "selection.seed=7",
        "training.learning_rate=5.0e-4",
    ],
}
METRICS = ("task/score", "forgetting/mean")
MOST_APART, LEAST_GAIN = 2.0, 10.0
Z = 1.96


def train(name: str, settings: list[str], folder: Path, seed: int) -> Point:
    """Return what one training scored, with its scores of single items."""
    out = folder / f"{name.replace(' ', '-')}-{seed}"
    command = [sys.executable, "-m", "hft_ray", "train", str(FILE), "--out", str(out)]
    command += ["--storage", str(folder / "storage")]
    for setting in [*settings, "training.steps=150", f"training.seed={seed}"]:
        command += ["--set", setting]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    values = json.loads((out / "result.json").read_text(encoding="utf-8"))["values"]
    base, model = (read_one(out / "scores" / f"{each}{SUFFIX}") for each in (BASE, "final"))
    assert base is not None
    assert model is not None
    return Point(
        trial=f"{name} {seed}",
        variant=None,
        run_id=None,
        state="complete",
        step=0,
        values={metric: values[metric] for metric in METRICS},
        errors={metric: values[f"{STDERR}{metric}"] for metric in METRICS},
        configuration=name,
        answers=Answers(Sample(base), model),
    )


def compare(one: Point, other: Point, points: list[Point], metric: str) -> tuple[float, float]:
    """Return the difference of two means over seeds in points of 100, and its standard error.

    Both answer the same items; the error counts items and seeds.
    """
    noise = noise_of([one, other], {metric: "min"}, seed_covariance(points, {metric: "min"}))
    apart = one.values[metric] - other.values[metric]
    return 100 * apart, 100 * float(noise.difference(0, 1)[0])


def main() -> int:
    """Measure, print, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    seeds = range(parser.parse_args().seeds)
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "deepspeed"))
    print(f"{platform.machine()}, Python {platform.python_version()}, {versions}")
    with tempfile.TemporaryDirectory() as folder:
        points = [
            train(name, settings, Path(folder), seed)
            for name, settings in SETTINGS.items()
            for seed in seeds
        ]
    means = merged(points)
    for mean in means:
        task, lost = (100 * mean.values[metric] for metric in METRICS)
        each = ", ".join(f"{100 * seed.values[METRICS[1]]:.1f}" for seed in mean.seeds)
        print(f"{mean.configuration}: task score {task:.1f}, forgotten {lost:.1f} ({each})")
    full, half = means
    score, score_error = compare(half, full, means, METRICS[0])
    gain, error = compare(full, half, means, METRICS[1])
    print(
        f"forgets {gain:.1f} points less [{gain - Z * error:.1f}, {gain + Z * error:.1f}] at a "
        f"task score {score:+.1f} points off [{score - Z * score_error:+.1f}, "
        f"{score + Z * score_error:+.1f}]; 95 % intervals over items and seeds"
    )
    return 0 if abs(score) <= MOST_APART and gain - Z * error >= LEAST_GAIN else 1


if __name__ == "__main__":
    sys.exit(main())
