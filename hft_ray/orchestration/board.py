"""Who runs what: the rules of handing trials to worker groups, without Ray and without waiting.

The board is the one place that knows every trial's and group's state. The dispatcher actor puts it
behind remote calls; a test can drive it by hand.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any, Literal

from hft_ray.orchestration.faults import MOST_SPARED, RULES, Fault

Kind = Literal["base", "trial"]


@dataclass(frozen=True)
class Order:
    """What a worker group is to do.

    Attributes:
        number: Counts up over all orders, so that every rank of a group sees each order once.
        trial: Id of the trial.
        kind: ``base`` scores the untouched model, ``trial`` fine-tunes.
        settings: Dotted key -> value, what differs from FILE.
    """

    number: int
    trial: str
    kind: Kind
    settings: dict[str, Any]


@dataclass
class Job:
    """A trial on the board.

    Attributes:
        owner: Who handed it in last, and alone may take it back.
        since: When a group began with it, None while none has it.
        seconds: For how long groups had it before.
        last_scored: Its scored report of the highest step.
        results: Its scored reports by ascending step, then its end.
    """

    trial: str
    kind: Kind
    settings: dict[str, Any]
    owner: str = ""
    since: float | None = None
    seconds: float = 0.0
    attempts: int = 0
    spared: int = 0
    stop: bool = False
    outcome: dict[str, Any] | None = None
    last_scored: dict[str, Any] | None = None
    results: list[dict[str, Any]] = field(default_factory=list)

    def count(self) -> None:
        """Add the time since a group began with it: none has it any more."""
        if self.since is not None:
            self.seconds += time.time() - self.since
            self.since = None

    def forget(self) -> None:
        """Keep no more than that it has ended: its owner has taken every result."""
        self.settings, self.results, self.last_scored = {}, [], None
        self.outcome = {}


@dataclass
class Group:
    """A worker group on the board; an incarnation is one life of its processes.

    Attributes:
        nodes: Where they run.
        trouble: The outcome of a trial that is to be tried again in the next life.
    """

    incarnation: str = ""
    order: Order | None = None
    finished: set[int] = field(default_factory=set)
    size: int = 1
    lost: bool = False
    nodes: set[str] = field(default_factory=set)
    trouble: dict[str, Any] | None = None


class Board:
    """Queue, groups and results.

    Args:
        groups: Number of worker groups.
        retries: How often a trial whose worker died is started again.
    """

    def __init__(self, groups: int, retries: int) -> None:
        self.retries = retries
        self.groups = {number: Group() for number in range(groups)}
        self.jobs: dict[str, Job] = {}
        self.queue: deque[str] = deque()
        self.events: list[dict[str, Any]] = []
        self.closing = False
        self._orders = 0
        self._events_taken = 0

    # What the driver and the Tune trials ask for.

    def submit(self, trial: str, kind: Kind, settings: dict[str, Any], owner: str = "") -> None:
        """Queue a trial; one that is under way goes on, with another owner.

        Tune may start an actor for a trial, give the trial to one that is free by then, and only
        then end the first one.
        """
        known = self.jobs.get(trial)
        if known is not None and known.outcome is None:
            known.owner, known.stop = owner, False
            return
        self.jobs[trial] = Job(trial, kind, settings, owner)
        self._event("submitted", trial, settings=settings)
        if all(group.lost for group in self.groups.values()):
            self._end(self.jobs[trial], {"state": "failed", "reason": "no worker group is left"})
        else:
            self.queue.append(trial)

    def stop(self, trial: str, owner: str | None = None) -> None:
        """Ask a trial to stop at its next report; one that waits is stopped at once.

        Args:
            trial: Its name.
            owner: Who asks, ignored unless it is the trial's owner still; None may always.
        """
        job = self.jobs.get(trial)
        if job is None or owner not in (None, job.owner):
            return
        if job.outcome is not None:
            if owner is not None:
                job.forget()
            return
        if not job.stop:
            job.stop = True
            self._event("stopping", trial)
        if trial in self.queue:
            self.queue.remove(trial)
            self._end(job, {"state": "stopped", "reason": "stopped before it began"})

    def events_after(self, number: int) -> list[dict[str, Any]]:
        """Return the events past a number, and keep those up to it no longer."""
        taken = max(0, number - self._events_taken)
        del self.events[:taken]
        self._events_taken += taken
        return list(self.events)

    def result_after(self, trial: str, index: int) -> dict[str, Any] | None:
        """Return the trial's result number ``index``, or None while there is none yet."""
        results = self.jobs[trial].results
        return results[index] if index < len(results) else None

    def close(self) -> None:
        """Send every group home after its current trial."""
        self.closing = True

    # What the workers say and ask.

    def join(
        self,
        group: int,
        incarnation: str,
        size: int,
        node: str = "",
        living: Collection[str] | None = None,
    ) -> None:
        """Take in a group's new processes; what the old ones ran is queued again, or failed.

        Args:
            group: Number of the group.
            incarnation: Id of this life of its processes; each of them joins.
            size: How many they are.
            node: Where the one runs that joins.
            living: The cluster's nodes, but for those about to be taken away, if they are known.
        """
        state = self.groups[group]
        if state.incarnation == incarnation:
            state.nodes.add(node)
            return
        if living is not None and not state.nodes <= {*living, ""}:
            self._abandon(state, "a node was lost", "node_lost")
        else:
            self._abandon(state, "a worker process died", "worker_crash")
        self.groups[group] = Group(incarnation=incarnation, size=size, nodes={node})
        self._event("joined", "", group=group)

    def lose_nodes(self, living: Collection[str]) -> None:
        """Take back what ran on nodes that are gone, before their groups find another place."""
        for number, state in self.groups.items():
            if not state.nodes <= {*living, ""}:
                self._abandon(state, "a node was lost", "node_lost")
                self.groups[number] = Group(lost=state.lost)

    def order_for(self, group: int, incarnation: str, after: int) -> Order | None:
        """Return the group's current order if it is newer than ``after``; give it one if idle."""
        state = self.groups[group]
        if state.incarnation != incarnation:
            return None
        if state.order is None and self.queue:
            self._hand_out(group, state)
        if state.order is not None and state.order.number > after:
            return state.order
        return None

    def report(
        self,
        incarnation: str,
        group: int,
        trial: str,
        step: int,
        metrics: dict[str, float],
        scored: bool,
        last: bool = False,
    ) -> bool:
        """Take a running trial's metrics; return whether it is to stop.

        Args:
            incarnation: The life of the processes that report.
            group: Their group.
            trial: The trial.
            step: Optimizer steps made.
            metrics: Metric -> value.
            scored: Whether they hold every score.
            last: Whether the trial has made its last step.
        """
        job = self.jobs[trial]
        if self.groups[group].incarnation != incarnation or job.outcome is not None:
            return True
        self._event("report", trial, step=step, metrics=metrics, scored=scored, last=last)
        seen = job.last_scored["step"] if job.last_scored else 0
        # A trial that was started again repeats steps that Tune has seen.
        if scored and step >= seen:
            job.last_scored = {"step": step, "values": metrics, "last": last}
            if step > seen:
                job.results.append(job.last_scored)
        return job.stop

    def tell(self, trial: str, text: str) -> None:
        """Take what a worker says of how far it is."""
        self._event("told", trial, text=text)

    def troubled(self, work: str, error: str) -> None:
        """Take note of an error in the background, for the driver to count."""
        self._event("troubled", "", work=work, error=error)

    def saved(self, trial: str, step: int) -> None:
        """Take note of a checkpoint."""
        self._event("checkpoint", trial, step=step)

    def finish(
        self, incarnation: str, group: int, rank: int, trial: str, outcome: dict[str, Any]
    ) -> None:
        """Take one rank's end of a trial; the group is idle when all its ranks have ended."""
        state = self.groups[group]
        if state.incarnation != incarnation or state.order is None or state.order.trial != trial:
            return
        state.finished.add(rank)
        job = self.jobs[trial]
        if RULES[outcome.get("fault", "error")].retry:
            # This life of the processes ends; the next one shows it.
            state.trouble = outcome
        elif job.outcome is None and (rank == 0 or outcome["state"] == "failed"):
            self._end(job, outcome)
        if len(state.finished) == state.size and state.trouble is None:
            state.order, state.finished = None, set()

    def lose(self, group: int, reason: str) -> None:
        """Take out a group that cannot be started again."""
        state = self.groups[group]
        self._abandon(state, reason, "worker_crash")
        state.lost = True
        state.incarnation = ""
        if all(each.lost for each in self.groups.values()):
            while self.queue:
                job = self.jobs[self.queue.popleft()]
                self._end(job, {"state": "failed", "reason": f"no worker group is left: {reason}"})

    # The rules behind.

    def _hand_out(self, group: int, state: Group) -> None:
        job = self.jobs[self.queue.popleft()]
        job.attempts += 1
        job.since = time.time()
        self._orders += 1
        state.order = Order(self._orders, job.trial, job.kind, job.settings)
        state.finished = set()
        self._event("started", job.trial, group=group, attempt=job.attempts)

    def _abandon(self, state: Group, reason: str, fault: Fault) -> None:
        """Queue the group's unfinished trial again at the front, or end it as failed."""
        if state.order is None:
            return
        job = self.jobs[state.order.trial]
        if state.trouble is not None and fault != "node_lost":
            reason, fault = state.trouble["reason"], state.trouble["fault"]
        state.order, state.finished, state.trouble = None, set(), None
        if job.outcome is not None:
            return
        job.count()
        if not RULES[fault].counted and job.spared < MOST_SPARED:
            job.spared += 1
        counted = job.attempts - job.spared
        if job.stop:
            self._end(job, {"state": "stopped", "reason": reason})
        elif counted > self.retries:
            times = f"{counted} time{'s' if counted > 1 else ''}"
            self._end(job, {"state": "failed", "reason": f"{reason} ({times})", "fault": fault})
        else:
            self.queue.appendleft(job.trial)
            self._event("retried", job.trial, reason=reason, attempt=job.attempts, fault=fault)

    def _end(self, job: Job, outcome: dict[str, Any]) -> None:
        job.count()
        scored = job.last_scored or {"step": 0, "values": {}, "last": False}
        job.outcome = {**scored, "seconds": job.seconds, **outcome}
        job.results.append({**scored, "outcome": job.outcome})
        self._event("finished", job.trial, **job.outcome)

    def _event(self, kind: str, trial: str, **details: Any) -> None:
        self.events.append({"event": kind, "trial": trial, "time": time.time(), **details})
