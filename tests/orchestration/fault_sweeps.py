"""Sweeps that meet injected faults, and what they have left."""

from __future__ import annotations

import ast
import copy
import json
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from ray_nodes import REPOSITORY, RayNodes
from sweep_driver import read_front
from sweep_runs import Runs

INJECTED = Path(__file__).parent / "injected"
STEPS, EVERY = 12, 4
"""Optimizer steps of a trial, and those between two checkpoints."""
REPEATED = 2 * EVERY - 1
"""Most steps that a killed worker repeats: a checkpoint that is still being written is lost too."""
Fault = dict[str, Any]


def injected(folder: Path) -> dict[str, str]:
    """Return variables for processes that are to meet the faults planned in ``folder``."""
    folder.mkdir()
    return {"INJECTED": str(folder), "PYTHONPATH": f"{INJECTED}:{REPOSITORY}"}


@contextmanager
def cluster(folder: Path, *numbers: int) -> Iterator[RayNodes]:
    """Yield a cluster whose processes meet faults, with nodes of these numbers that train."""
    nodes = RayNodes(folder, injected(folder / "plans"))
    try:
        for number in numbers:
            nodes.add(number)
        yield nodes
    finally:
        nodes.close()


class FaultSweep:
    """A FILE of so many trials whose settings no outcome changes, and its faults.

    The trials of one name are the same in every such sweep.

    Args:
        nodes: The cluster; its ``INJECTED`` names the folder of plans.
        content: FILE to start from.
        name: Name of the sweep.
        trials: How many, besides the baseline.
        faults: What is to happen.
        file: Sections of FILE; what they say goes before what is said here.
        cluster: The section of FILE.
    """

    def __init__(
        self,
        nodes: RayNodes,
        content: dict[str, Any],
        name: str,
        trials: int,
        faults: Sequence[Fault] = (),
        file: Mapping[str, Mapping[str, Any]] | None = None,
        **cluster: Any,
    ) -> None:
        self.nodes, self.name, self.root = nodes, name, nodes.root
        self.plans = Path(nodes.environment["INJECTED"])
        content = copy.deepcopy(content) | {"name": name, "cluster": cluster}
        content["training"] |= {"steps": STEPS, "log_every": EVERY, "checkpoint_every": EVERY}
        content["search"] = {
            "trials": trials + 1,
            "sampler": "random",
            "variants": {"averages": 0, "half_reset": False},
            "weights": "none",
            "space": {"selection.ratio": {"low": 0.1, "high": 0.9}},
            "first": [
                {"selection.ratio": 0.1 + 0.8 * (0.618 * n % 1)} for n in range(1, trials + 1)
            ],
        }
        content["search"]["first"].insert(0, {"selection.ratio": 1.0})
        for section, said in (file or {}).items():
            content[section] = content.get(section, {}) | said
        self.tracking: str | None = content.get("tracking", {}).get("uri")
        self.names = [f"t{number:04d}" for number in range(trials + 1)]
        self.file = nodes.folder / f"{name}.yaml"
        self.file.write_text(yaml.safe_dump(content))
        (self.plans / f"{name}.json").write_text(json.dumps(list(faults)))

    @property
    def tune(self) -> list[str]:
        """The command that runs it."""
        return ["hft-ray", "tune", str(self.file)]

    def finish(self) -> int:
        """Run it to its end, its driver started again whenever it dies; return the starts."""
        for start in range(1, 100):
            job = f"{self.name}-whole-{start}"
            self.nodes.submit(job, *self.tune)
            if self.nodes.wait_for_job(job)["status"] == "SUCCEEDED":
                return start
            said = self.nodes.job_log(job)
            assert "the sweep failed" not in said, said
        raise AssertionError

    def values(self) -> dict[str, dict[str, float]]:
        """Trial -> what it scored, of those on the report; costs left out, which differ."""
        return {
            each["trial"]: {k: v for k, v in each["values"].items() if not k.startswith("cost/")}
            for each in self.points()
            if each["state"] == "complete"
        }

    def members(self) -> set[str]:
        """The trials on the front."""
        return {each["trial"] for each in self.points() if each["on_front"]}

    def points(self) -> list[dict[str, Any]]:
        """The points of its report."""
        return list(read_front(self.root, self.name)["points"])

    def events(self, kind: str) -> list[dict[str, Any]]:
        """The events of one kind, started or retried, by the log of all drivers."""
        log = (self.root / "sweeps" / self.name / "logs" / "driver.log").read_text(errors="replace")
        start = f"{{'event': '{kind}'"
        lines = [line[line.index(start) :] for line in log.splitlines() if start in line]
        return [ast.literal_eval(line) for line in lines]

    def retried(self) -> dict[str, list[str]]:
        """Trial -> why it was started again."""
        found: dict[str, list[str]] = {}
        for each in self.events("retried"):
            found.setdefault(each["trial"], []).append(each["fault"])
        return found

    def steps(self) -> Counter[tuple[str, int]]:
        """(trial, step) -> how often rank 0 made it."""
        made_steps = self.plans / f"{self.name}.steps"
        lines = made_steps.read_text().splitlines() if made_steps.exists() else []
        made = [line.split() for line in lines]
        return Counter((trial, int(step)) for trial, step, rank in made if rank == "0")

    def total(self) -> int:
        """How many steps rank 0 has made, repeated ones included."""
        return self.steps().total()

    def wait_for_steps(self, number: int, job: str, seconds: float = 1800) -> None:
        """Wait until a job has brought the steps to so many; the sweep may not end before."""
        end, look = time.monotonic() + seconds, 0.0
        while self.total() < number:
            if time.monotonic() > look:
                look = time.monotonic() + 5
                status, log = self.nodes.job(job)["status"], self.nodes.job_log
                assert status in ("PENDING", "RUNNING"), log(job)
                assert time.monotonic() < end, f"only {self.total()} of {number} steps: {log(job)}"
            time.sleep(0.05)

    def wait_until_met(self, *numbers: int, seconds: float = 1800) -> None:
        """Wait until the faults of these numbers have begun to happen."""
        end = time.monotonic() + seconds
        while not all((self.plans / f"{self.name}-{number}-0").exists() for number in numbers):
            assert time.monotonic() < end, f"of {numbers} only {sorted(self.plans.iterdir())}"
            time.sleep(0.1)

    def check_books(self, states: dict[str, str]) -> Runs:
        """Check that the planned trials are there, each once, and that none is left running."""
        runs = Runs(self.root, self.name, self.tracking)
        assert runs.states() == {name: states.get(name, "complete") for name in self.names}
        assert "RUNNING" not in runs.statuses().values()
        assert runs.parent.info.status == "FINISHED"
        return runs

    def check_values(self, fault_free: FaultSweep, changed: Sequence[str] = ()) -> None:
        """Check that each trial has scored what it scores without faults, and so has the front."""
        here, there = self.values(), fault_free.values()
        assert set(here) == set(self.names) - set(changed)
        assert here == {name: there[name] for name in here}
        if self.names == fault_free.names:
            assert self.members() >= fault_free.members() - set(changed)
            if not fault_free.members() & set(changed):
                assert self.members() == fault_free.members()
