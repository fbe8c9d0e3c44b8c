"""Time of the driver for one finished trial, with many trials before it.

What the driver's thread does when a trial ends, without Ray: the study takes the end, the recorder
passes it to MLflow's writer and updates the front, the front is logged, weights that left it are
deleted. Every trial has one variant; those that are measured have a picture of their selection.

    python benchmarks/front_update.py [--trials 2000] [--measured 20] [--seeds 1]

Prints the median and the largest processor time of the driver's thread, in milliseconds, for each
part. The writer to MLflow has a thread of its own, which does not count; no server answers it here,
so that it does not slow down the rest.
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hft_ray.config import Config
from hft_ray.config.load import validate
from hft_ray.orchestration.folder import SweepFolder
from hft_ray.orchestration.kept_weights import KeptWeights
from hft_ray.orchestration.recorder import Recorder
from hft_ray.search import Study

BASE = {"task/score": 0.1, "forgetting/mean": 0.0}
WORST = {"task/score": 0.0, "forgetting/mean": 1.0}


def make_config(trials: int, seeds: int) -> Config:
    space = {
        "selection.ratio": {"low": 0.1, "high": 1.0},
        "training.learning_rate": {"low": 1e-5, "high": 1e-3, "log": True},
    }
    search = {"space": space, "trials": trials, "sampler": "random", "seeds": seeds}
    given = {"name": "s", "model": "m", "data": {"train": "t.jsonl"}, "search": search}
    given["tracking"] = {"uri": "http://127.0.0.1:9"}
    return validate(given, "front_update.yaml")


class Driver:
    """The parts of a sweep's driver that work when a trial ends."""

    def __init__(self, config: Config, root: Path) -> None:
        self.folder = SweepFolder(root, config.name)
        self.folder.claim(config)
        self.study = Study(config, self.folder.study)
        self.recorder = Recorder(config, self.folder, {})
        self.recorder.open(BASE, WORST, [])
        self.weights = KeptWeights(self.folder.weights)
        self.ended: list[str] = []
        self.spent: dict[str, list[float]] = defaultdict(list)
        self.random = random.Random(0)

    @contextmanager
    def timed(self, part: str) -> Iterator[None]:
        begin = time.thread_time()
        yield
        self.spent[part].append(time.thread_time() - begin)

    def trial(self, measured: bool) -> None:
        """Start a trial and end it; without the front if it is not measured."""
        known = self.study.next_trial()
        assert known is not None
        told = {"trial": known.trial, "time": 0.0}
        told["configuration"] = self.study.configuration(known.trial)
        self.recorder.take({**told, "event": "submitted", "settings": known.params})
        event = self._end(known.trial, measured)
        with self.timed("study"):
            event |= self.study.tell(known.trial, event)
            self.study.planned()
        with self.timed("recorder"):
            self.recorder.take({**told, **event})
        self.ended.append(known.trial)
        if not measured:
            return
        with self.timed("front"):
            front = self.recorder.front()
            self.recorder.log_front(front, len(self.ended))
        with self.timed("weights"):
            self.recorder.tag_weights(self.weights.prune(front, self.ended))

    def _end(self, trial: str, measured: bool) -> dict[str, Any]:
        made = self.folder.weights / trial / "final"
        made.mkdir(parents=True)
        (made / "state.safetensors").write_bytes(bytes(8))
        fractions = {"block_parameters": 0.5, "model_parameters": 0.4}
        rounds = {"step": 0, "fractions": fractions, "touched_fraction": 0.5, "distances": {}}
        variant = {"variant": "alpha-0.5", "step": 8, "values": self._values()}
        end = {"state": "complete", "step": 8, "values": self._values(), "variants": [variant]}
        return {"event": "finished", "trial": trial, "steps": 8, **end} | (
            {"selection": [rounds]} if measured else {}
        )

    def _values(self) -> dict[str, float]:
        score, lost = self.random.random(), self.random.random()
        values = {"task/score": score * 0.9, "forgetting/mean": lost}
        return {**values, **{f"stderr/{name}": 0.01 for name in values}}


def main() -> None:
    """Print the times."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=2000)
    parser.add_argument("--measured", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=1)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        driver = Driver(make_config(given.trials + given.measured, given.seeds), Path(root))
        for _ in range(given.trials):
            driver.trial(measured=False)
        driver.spent.clear()
        for _ in range(given.measured):
            driver.trial(measured=True)
        driver.recorder.close("stopped")
        whole = [sum(parts) for parts in zip(*driver.spent.values(), strict=True)]
        for part, seconds in {**driver.spent, "together": whole}.items():
            times = [1000 * each for each in seconds]
            print(f"{part:>10}: median {statistics.median(times):6.2f}, most {max(times):6.2f} ms")


if __name__ == "__main__":
    main()
