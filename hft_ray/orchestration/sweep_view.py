"""The state of a running sweep, kept by the driver and shown by the command line."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the front's pictures take seconds to import
    from hft_ray.pareto import Front


@dataclass
class Running:
    """A trial under way: its last reported step and training loss."""

    group: int
    step: int = 0
    loss: float | None = None


@dataclass
class SweepView:
    """The state of a sweep, updated by its events.

    Attributes:
        name: Name of the sweep.
        planned: Trials of the sweep.
        states: Trial -> state.
        running: Trial -> its progress.
        front: Front of the finished trials.
        phase: What the sweep is doing, in a few words.
    """

    name: str
    planned: int
    groups: int
    states: dict[str, str] = field(default_factory=dict)
    running: dict[str, Running] = field(default_factory=dict)
    front: Front | None = None
    phase: str = "starting"
    started: float = field(default_factory=time.monotonic)
    durations: list[float] = field(default_factory=list)
    _began: dict[str, float] = field(default_factory=dict)

    def counts(self) -> Counter[str]:
        """Return the number of trials in each state; those not begun are ``planned``."""
        counts = Counter(self.states.values())
        counts["planned"] = self.planned - sum(counts.values())
        return +counts

    @property
    def ended(self) -> list[str]:
        """The trials that have ended, in any state."""
        return [name for name, state in self.states.items() if state not in ("queued", "running")]

    @property
    def finished(self) -> int:
        """How many have ended."""
        return len(self.ended)

    @property
    def elapsed(self) -> float:
        """Seconds since the command began."""
        return time.monotonic() - self.started

    @property
    def eta(self) -> float | None:
        """Seconds until the end, by the mean duration of the trials that this driver finished."""
        if not self.durations:
            return None
        mean = sum(self.durations) / len(self.durations)
        return mean * (self.planned - self.finished) / self.groups

    def take(self, event: dict[str, Any]) -> None:
        """Update the view with an event."""
        trial = event["trial"]
        match event["event"]:
            case "submitted" | "retried":
                self.states[trial] = "queued"
                self.running.pop(trial, None)
            case "started":
                self.states[trial] = "running"
                self.running[trial] = Running(event["group"])
                self._began[trial] = time.monotonic()
            case "report" if trial in self.running:
                self.running[trial].step = event["step"]
                self.running[trial].loss = event["metrics"].get("train/loss")
            case "finished":
                self.states[trial] = event["state"]
                self.running.pop(trial, None)
                if trial in self._began:
                    self.durations.append(time.monotonic() - self._began[trial])


Watch = Callable[[dict[str, Any], SweepView], None]
"""Called with an event, and the view after it."""
