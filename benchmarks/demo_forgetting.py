"""The demo's claim: at full fine-tuning's task score, the best HFT setting forgets less.

Trains ``search_spaces/demo.yaml`` with two settings and several seeds of the data order, each as
``hft-ray train``, and prints what each seed gave and the means, in points of 100.

    python benchmarks/demo_forgetting.py [--seeds 3]

Exits with 1 when the task scores are more than 2 points apart or the gain is below 10 points.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

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
MOST_APART, LEAST_GAIN = 2.0, 10.0


def train(settings: list[str], folder: Path, seed: int) -> tuple[float, float]:
    """Return task score and forgetting of one training, in points of 100."""
    out = folder / f"{len(list(folder.iterdir()))}"
    command = [sys.executable, "-m", "hft_ray", "train", str(FILE), "--out", str(out)]
    command += ["--storage", str(folder / "storage")]
    for setting in [*settings, f"training.seed={seed}"]:
        command += ["--set", setting]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    values = json.loads((out / "result.json").read_text(encoding="utf-8"))["values"]
    return 100 * values["task/score"], 100 * values["forgetting/mean"]


def main() -> int:
    """Measure, print, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    seeds = range(parser.parse_args().seeds)
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "deepspeed"))
    print(f"{platform.machine()}, Python {platform.python_version()}, {versions}")
    means = []
    for name, settings in SETTINGS.items():
        with tempfile.TemporaryDirectory() as folder:
            results = [train(settings, Path(folder), seed) for seed in seeds]
        task, lost = (statistics.mean(column) for column in zip(*results, strict=True))
        each = ", ".join(f"{forgotten:.1f}" for _, forgotten in results)
        print(f"{name}: task score {task:.1f}, forgotten {lost:.1f} ({each})")
        means.append((task, lost))
    (full_task, full_lost), (half_task, half_lost) = means
    gain = full_lost - half_lost
    print(f"forgets {gain:.1f} points less at a task score {half_task - full_task:+.1f} points off")
    return 0 if abs(half_task - full_task) <= MOST_APART and gain >= LEAST_GAIN else 1


if __name__ == "__main__":
    sys.exit(main())
