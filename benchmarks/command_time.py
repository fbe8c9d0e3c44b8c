"""Processor time of the commands that ought to answer at once.

Each command runs in a process of its own, on a storage root whose local MLflow store has one sweep.

    python benchmarks/command_time.py [--runs 5]

Prints the median processor time of each command (user and system), in seconds, and its aim.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

from hft_ray.tracking import Tracker, artifact_location, tracking_uri

DEMO = Path(__file__).parents[1] / "search_spaces" / "demo.yaml"
COMMANDS = {
    ("--help",): 0.5,
    ("schema",): None,
    ("status", "s"): 2.0,
    ("stop", "s", "--timeout", "0"): 2.0,
    ("report", "s"): None,
    ("plan", str(DEMO)): 6.0,
}
"""Arguments -> aim in seconds, where there is one."""


def write_sweep(root: Path) -> None:
    """Log a small sweep as its driver does."""
    uri = tracking_uri(None, root)
    search = {"space": {"selection.ratio": {"low": 0.1, "high": 1.0}}, "trials": 20}
    file = {"name": "s", "model": "m", "data": {"train": "t.jsonl"}, "search": search}
    places = {"spool": root / "spool", "artifacts": artifact_location(uri, root)}
    tracker = Tracker(uri, "hft-ray", **places)  # type: ignore[arg-type]
    tracker.open_sweep("s", yaml.safe_dump(file), {}, {})
    base = {"task/score": 0.1, "forgetting/mean": 0.0}
    directions, worst = {"task/score": "max", "forgetting/mean": "min"}, {"task/score": 0.0}
    tracker.describe_front(directions, worst | {"forgetting/mean": 1.0}, base)
    for number in range(10):
        trial, ratio = f"t{number:04d}", 0.1 + number / 11
        tracker.open_trial(trial, {"selection.ratio": ratio}, {})
        tracker.log(trial, 10, {"task/score": ratio, "forgetting/mean": ratio**2})
        tracker.finish_trial(trial, "complete")
    assert tracker.close(300)


def processor_time(arguments: tuple[str, ...], root: Path) -> float:
    """Return the processor time of one run, in seconds."""
    before = os.times()
    command = [sys.executable, "-m", "hft_ray", *arguments]
    settings = {"HFT_RAY_HOME": str(root), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, env=os.environ | settings, capture_output=True, check=False)
    assert done.returncode in (0, 1), done.stderr.decode()
    after = os.times()
    user, system = after.children_user, after.children_system
    return user - before.children_user + system - before.children_system


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5)
    runs = parser.parse_args().runs
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_sweep(root)
        for arguments, aim in COMMANDS.items():
            taken = [processor_time(arguments, root) for _ in range(runs)]
            name = " ".join(Path(each).name if "/" in each else each for each in arguments)
            text = "" if aim is None else f"  aim {aim:g}"
            print(f"{name:24} {statistics.median(taken):6.2f} s{text}", flush=True)


if __name__ == "__main__":
    main()
