"""What the board knows of a trial and of a worker group."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal["base", "trial"]


@dataclass(frozen=True)
class Order:
    """What a worker group has to do.

    Attributes:
        number: Increases from order to order, so that every rank of a group sees each order once.
        trial: Id of the trial.
        kind: ``base`` scores the untouched model, ``trial`` fine-tunes.
        settings: Dotted key -> value; the settings that differ from FILE.
    """

    number: int
    trial: str
    kind: Kind
    settings: dict[str, Any]


@dataclass
class Job:
    """A trial on the board.

    Attributes:
        since: Time at which its current group began with it, None while no group has it.
        seconds: Time that earlier groups spent on it.
        attempts: How often a group began with it.
        uncounted_attempts: Attempts that do not count among the retries.
        stop: Whether it is to stop at its next report.
        outcome: How it ended, None until then.
        last_scored: Its scored report with the highest step.
        results: Its scored reports in the order of their steps, then its end.
    """

    trial: str
    kind: Kind
    settings: dict[str, Any]
    since: float | None = None
    seconds: float = 0.0
    attempts: int = 0
    uncounted_attempts: int = 0
    stop: bool = False
    outcome: dict[str, Any] | None = None
    last_scored: dict[str, Any] | None = None
    results: list[dict[str, Any]] = field(default_factory=list)

    def stop_clock(self) -> None:
        """Add the time of the current attempt, which has ended."""
        if self.since is not None:
            self.seconds += time.time() - self.since
            self.since = None

    def end(self, outcome: dict[str, Any]) -> None:
        """End the trial with the scores of its last scored report."""
        self.stop_clock()
        scored = self.last_scored or {"step": 0, "values": {}, "last": False}
        self.outcome = {**scored, "seconds": self.seconds, **outcome}
        self.results.append({**scored, "outcome": self.outcome})


@dataclass
class Group:
    """A worker group on the board.

    Attributes:
        incarnation: Id of its current processes; processes that are started again have another.
        order: Its current order.
        finished: Ranks that have finished the order.
        size: Number of its processes.
        lost: Whether it cannot be started again.
        nodes: Ids of the nodes on which its processes run.
        places: Names of these nodes.
        phase: What it does with its order, in a few words.
        since: When it was given its order, or became idle, seconds since 1970.
        pending_fault: Outcome of a trial that is tried again by the next incarnation.
    """

    incarnation: str = ""
    order: Order | None = None
    finished: set[int] = field(default_factory=set)
    size: int = 1
    lost: bool = False
    nodes: set[str] = field(default_factory=set)
    places: set[str] = field(default_factory=set)
    phase: str = ""
    since: float = field(default_factory=time.time)
    pending_fault: dict[str, Any] | None = None
