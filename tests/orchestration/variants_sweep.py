"""One sweep whose trials hold more points than their last models, within a small disk budget."""

from __future__ import annotations

import copy
import json
import os
import re
import shutil
import signal
import threading
import time
from pathlib import Path
from typing import Any

from sweep_driver import SweepDriver, write_file

from hft_ray.artifacts import size_of

NAME = "variants"
BUDGET = 900_000
"""Bytes; without deletion the sweep would take more than five times as many."""
INTERVAL, STEPS, EVERY = 5, 36, 3
SAME, KILLED, BEST = "t0001", "t0002", "t0003"
"""Two trials with the same settings, in one of which the worker is killed; the one that learns."""
OBJECTIVES = {"task/score": "max", "forgetting/mean": "min"}
MADE = ("alpha-0.5", "alpha-0.8", "depth-0.9,-0.6", "reset-0.5")


def make_content(tiny_file: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return FILE: perplexities, so that the scores are smooth and the front is no accident."""
    trained = Path(tiny_file["data"]["train"]).read_text(encoding="utf-8").splitlines()
    pairs = [json.loads(line) for line in trained[:8]]
    seen = folder / "seen.jsonl"
    texts = [{"text": each["prompt"] + each["completion"]} for each in pairs]
    seen.write_text("".join(json.dumps(each) + "\n" for each in texts), encoding="utf-8")
    others = tiny_file["evaluation"]["general"][0]["data"]
    content = copy.deepcopy(tiny_file) | {"name": NAME}
    content["training"] |= {
        "steps": STEPS,
        "weight_decay": 0.0,
        "checkpoint_every": INTERVAL,
    }
    content["evaluation"] = {
        "every": EVERY,
        "task": [perplexity("seen", str(seen))],
        "general": [perplexity("texts", others)],
    }
    content["search"] = {
        "trials": 4,
        "disk_bytes": BUDGET,
        "objectives": OBJECTIVES,
        "reference_point": {"task/score": -6.0, "forgetting/mean": 0.5},
        "variants": {"averages": [0.5, 0.8], "depth": [[0.9, -0.6]], "steps": 20},
        "space": {"training.learning_rate": {"low": 1e-4, "high": 1e-1, "log": True}},
        "first": [
            settings(1.0, 0, 1e-3),
            settings(0.25, 0, 3e-3),
            settings(0.25, 0, 3e-3),
            settings(0.25, 3, 1.5e-2),
        ],
    }
    return content


def perplexity(name: str, data: str) -> dict[str, str]:
    return {"name": name, "kind": "perplexity", "data": data}


def settings(ratio: float, seed: int, rate: float) -> dict[str, Any]:
    return {"selection.ratio": ratio, "selection.seed": seed, "training.learning_rate": rate}


class Watched:
    """A finished sweep, and what was seen while it ran."""

    def __init__(self, tiny_file: dict[str, Any], store: Path, folder: Path) -> None:
        self.root = folder / "home"
        self.root.mkdir()
        shutil.copy(store, self.root)
        self.file = write_file(folder, make_content(tiny_file, folder))
        self.weights = self.root / "sweeps" / NAME / "weights"
        self.sizes: list[int] = []
        self.checkpoints: list[set[str]] = []
        self.driver = SweepDriver(self.file, self.root)
        self._done = threading.Event()
        threading.Thread(target=self._sample, daemon=True).start()

    def run(self) -> int:
        """Kill a worker between two checkpoints, wait for the end; return the exit code."""
        self.driver.wait_for_event("started", KILLED)
        end = time.monotonic() + 60
        while max(self.reported(KILLED), default=0) < 16 and time.monotonic() < end:
            time.sleep(0.05)
        (worker,) = self.driver.workers()
        os.kill(worker.pid, signal.SIGKILL)
        code = self.driver.wait()
        self._done.set()
        return code

    def reported(self, trial: str, lines: list[str] | None = None) -> list[int]:
        """The steps that a trial has reported, in their order."""
        found = re.compile(rf"'event': 'report', 'trial': '{trial}'.* 'step': (\d+)")
        lines = self.driver.events() if lines is None else lines
        return [int(match[1]) for line in lines if (match := found.search(line))]

    def _sample(self) -> None:
        folder = self.root / "sweeps" / NAME / "checkpoints"
        while not self._done.wait(0.02):
            self.sizes.append(size_of(self.weights))
            self.checkpoints.append({path.name for path in folder.glob("*")})
