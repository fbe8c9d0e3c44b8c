"""Sweeps that meet injected faults, and what they have left."""

from __future__ import annotations

import ast
import copy
import json
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from ray_nodes import REPOSITORY, RayNodes
from sweep_runs import Runs

INJECTED = Path(__file__).parent / "injected"
STEPS, EVERY = 12, 4
"""Optimizer steps of a trial, and those between two checkpoints."""
Fault = dict[str, Any]


def injected(folder: Path) -> dict[str, str]:
    """Return variables for processes that are to meet the faults planned in ``folder``."""
    folder.mkdir()
    return {"INJECTED": str(folder), "PYTHONPATH": f"{INJECTED}:{REPOSITORY}"}


class FaultSweep:
    """A FILE of so many trials whose settings no outcome changes, and its faults.

    Args:
        nodes: The cluster; its ``INJECTED`` names the folder of plans.
        content: FILE to start from.
        name: Name of the sweep.
        trials: How many, besides the baseline.
        faults: What is to happen.
        cluster: The section of FILE.
    """

    def __init__(
        self,
        nodes: RayNodes,
        content: dict[str, Any],
        name: str,
        trials: int,
        faults: Sequence[Fault] = (),
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
            "first": [{"selection.ratio": 0.1 + 0.8 * n / trials} for n in range(1, trials + 1)],
        }
        content["search"]["first"].insert(0, {"selection.ratio": 1.0})
        self.names = [f"t{number:04d}" for number in range(trials + 1)]
        self.file = nodes.folder / f"{name}.yaml"
        self.file.write_text(yaml.safe_dump(content))
        (self.plans / f"{name}.json").write_text(json.dumps(list(faults)))

    @property
    def tune(self) -> list[str]:
        """The command that runs it."""
        return ["hft-ray", "tune", str(self.file)]

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

    def wait_until_met(self, *numbers: int, seconds: float = 1800) -> None:
        """Wait until the faults of these numbers have begun to happen."""
        end = time.monotonic() + seconds
        while not all((self.plans / f"{self.name}-{number}-0").exists() for number in numbers):
            assert time.monotonic() < end, f"of {numbers} only {sorted(self.plans.iterdir())}"
            time.sleep(0.1)

    def check_books(self, states: dict[str, str]) -> Runs:
        """Check that the planned trials are there, each once, and that none is left running."""
        runs = Runs(self.root, self.name)
        assert runs.states() == {name: states.get(name, "complete") for name in self.names}
        assert "RUNNING" not in runs.statuses().values()
        assert runs.parent.info.status == "FINISHED"
        return runs
