"""The status of a sweep, from tracking alone."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

from hft_ray.config import Config
from hft_ray.device_cost import DeviceCost
from hft_ray.orchestration.fronts import config_of, front_of
from hft_ray.orchestration.group_state import GroupState, groups_in
from hft_ray.orchestration.sweep_cost import tracked_cost
from hft_ray.pareto import Front
from hft_ray.tracking import SweepRecord, TrialRecord, names, read_sweep, silence

SILENT_SECONDS = 60.0
"""A sweep whose driver was silent for longer may be dead."""
USED = ("device_memory_bytes", "device_used", "host_memory_bytes", "cores_used")
"""Metrics ``system/NAME`` of a trial that say what rank 0 of its group uses."""


@dataclass(frozen=True)
class TrialProgress:
    """How far a running trial has come, by its last report.

    Attributes:
        step: Optimizer steps made.
        loss: Training loss there.
        device_memory_bytes: What rank 0 holds of its device's memory; None without a device.
        device_used: How busy that device is, in [0, 1]; None where it cannot be asked.
        host_memory_bytes: Resident memory of rank 0's process.
        cores_used: CPU cores that it uses.
    """

    step: int = 0
    loss: float | None = None
    device_memory_bytes: float | None = None
    device_used: float | None = None
    host_memory_bytes: float | None = None
    cores_used: float | None = None


@dataclass(frozen=True)
class SweepStatus:
    """A sweep at one moment.

    Attributes:
        state: running, complete, failed or stopped.
        states: State -> trials in it; trials that were not begun yet are ``planned``.
        groups: What each worker group of a running sweep does, by number; empty if unknown, as when
            its driver is silent.
        running: Trial -> how far it has come.
        front: Front of the finished trials, None before the base model is scored.
        elapsed: Seconds from the sweep's first start to its end, or until now if it is running.
        eta: Seconds until the end, None if unknown.
        cost: What its trials have cost so far, None if unknown.
        silence: Seconds since the last sign of life of a running sweep's driver, None if unknown.
    """

    name: str
    state: str
    states: dict[str, int]
    groups: list[GroupState]
    running: dict[str, TrialProgress]
    front: Front | None
    elapsed: float
    eta: float | None
    cost: DeviceCost | None
    silence: float | None

    def to_json(self) -> dict[str, Any]:
        """Return what ``hft-ray status --json`` prints."""
        return {
            "sweep": self.name,
            "state": self.state,
            "states": self.states,
            "hypervolume": None if self.front is None else self.front.hypervolume,
            "elapsed_seconds": self.elapsed,
            "eta_seconds": self.eta,
            "silent_seconds": self.silence,
            "groups": [asdict(each) | self._progress(each.trial) for each in self.groups],
            "device_hours": None if self.cost is None else self.cost.device_hours,
            "price": None if self.cost is None else self.cost.price,
        }

    def _progress(self, trial: str | None) -> dict[str, Any]:
        return asdict(self.running.get(trial or "", TrialProgress()))


def sweep_status(uri: str, experiment: str, name: str) -> SweepStatus:
    """Return the status of a sweep; raises as :func:`~hft_ray.tracking.read_sweep`."""
    record = read_sweep(uri, experiment, name)
    config = config_of(record)
    assert config.search is not None
    states = Counter(each.state for each in record.trials)
    states["planned"] = max(0, config.search.trials - _configurations(record))
    now = time.time()
    on = record.state == "running"
    quiet = silence(record.tags) if on else None
    awake = on and (quiet is None or quiet <= SILENT_SECONDS)
    return SweepStatus(
        name=name,
        state=record.state,
        states={state: count for state, count in sorted(states.items()) if count},
        groups=groups_in(record.tags, config.cluster.groups) if awake else [],
        running={each.trial: _progress(each) for each in record.trials if each.state == "running"},
        front=front_of(record, config) if record.objectives else None,
        elapsed=(now if on else record.span.ended or now) - record.span.began,
        eta=_eta(record, config, now),
        cost=tracked_cost(record, config),
        silence=quiet,
    )


def _configurations(record: SweepRecord) -> int:
    """Return the number of configurations that have begun."""
    return sum(
        each.tags.get(names.CONFIGURATION, each.trial) == each.trial for each in record.trials
    )


def _progress(trial: TrialRecord) -> TrialProgress:
    steps = trial.history("train/loss")
    used = (trial.metrics.get(f"system/{name}") for name in USED)
    return TrialProgress(*(steps[-1] if steps else (0, None)), *used)


def _eta(record: SweepRecord, config: Config, now: float) -> float | None:
    """Return the mean duration of a trial times the trials left, divided by the groups."""
    assert config.search is not None
    if record.state == "complete":
        return 0.0
    spans = [each.span for each in record.trials if each.state in ("complete", "pruned")]
    taken = [span.ended - span.began for span in spans if span.ended is not None]
    if record.state != "running" or not taken:
        return None
    mean = sum(taken) / len(taken)
    running = [each.span for each in record.trials if each.state == "running"]
    stopped = sum(each.state == "stopped" for each in record.trials)
    unbegun = max(0, config.search.trials - _configurations(record)) + stopped
    rest = sum(max(0.0, mean - (now - span.began)) for span in running)
    return (rest + mean * unbegun) / config.cluster.groups
