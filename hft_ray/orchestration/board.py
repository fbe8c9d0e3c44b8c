"""The rules by which trials are handed to worker groups, without Ray and without waiting.

The board alone knows the state of every trial and group. The dispatcher actor puts it behind remote
calls; a test can drive it by hand.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Collection
from typing import Any

from hft_ray.orchestration.board_entries import Group, Job, Kind, Order
from hft_ray.orchestration.faults import MOST_UNCOUNTED, RULES, Fault
from hft_ray.orchestration.group_state import GroupState


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
        self._released: set[str] = set()
        self._orders = 0
        self._events_taken = 0

    # Called by the driver and by the Tune trials.

    def submit(self, trial: str, kind: Kind, settings: dict[str, Any]) -> None:
        """Queue a trial; nothing happens if the board has had it already.

        Tune may start an actor for a trial and then give the trial to an actor that became free, so
        that both submit it.
        """
        if trial in self.jobs or trial in self._released:
            return
        job = self.jobs[trial] = Job(trial, kind, settings)
        self.queue.append(trial)
        self._event("submitted", trial, settings=settings)
        if all(group.lost for group in self.groups.values()):
            self._end_queued(job, "failed", "no worker group is left")

    def stop(self, trial: str) -> None:
        """Ask a trial to stop at its next report; a queued one is stopped at once."""
        job = self.jobs.get(trial)
        if job is None or job.outcome is not None:
            return
        if not job.stop:
            job.stop = True
            self._event("stopping", trial)
        if trial in self.queue:
            self._end_queued(job, "stopped", "stopped before it began")

    def release(self, trial: str) -> None:
        """Forget a trial whose end the study knows.

        Workers that still train it, since Tune's side of it died, stop at their next report.
        """
        self._released.add(trial)
        self.jobs.pop(trial, None)
        if trial in self.queue:
            self.queue.remove(trial)

    def events_after(self, number: int) -> list[dict[str, Any]]:
        """Return the events after the first ``number`` ones, and delete those."""
        taken = max(0, number - self._events_taken)
        del self.events[:taken]
        self._events_taken += taken
        return list(self.events)

    def result_after(self, trial: str, index: int) -> dict[str, Any] | None:
        """Return result number ``index`` of the trial, None if there is none yet."""
        results = self.jobs[trial].results
        return results[index] if index < len(results) else None

    def close(self) -> None:
        """Shut every group down after its current trial."""
        self.closing = True

    # Called by the workers.

    def join(
        self,
        group: int,
        incarnation: str,
        size: int,
        node: str = "",
        living: Collection[str] | None = None,
        place: str = "",
    ) -> None:
        """Take in a process of a group; what an earlier incarnation ran is queued again, or failed.

        Args:
            group: Number of the group.
            incarnation: Id of the group's processes, each of which joins.
            size: Number of these processes.
            node: Id of the process's node.
            living: Nodes of the cluster that are not about to be taken away, None if unknown.
            place: Name of the process's node, for the user.
        """
        state = self.groups[group]
        if state.incarnation == incarnation:
            state.nodes.add(node)
            state.places.add(place)
            return
        if living is not None and not state.nodes <= {*living, ""}:
            self._abandon(state, "a node was lost", "node_lost")
        else:
            self._abandon(state, "a worker process died", "worker_crash")
        joined = Group(incarnation=incarnation, size=size, nodes={node}, places={place})
        self.groups[group] = joined
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
        """Take the metrics of a running trial; return whether it has to stop.

        Args:
            incarnation: Id of the group's processes.
            group: Number of the group.
            trial: Id of the trial.
            step: Optimizer steps made.
            metrics: Metric -> value.
            scored: Whether the metrics hold every score.
            last: Whether the trial has made its last step.
        """
        job = self.jobs.get(trial)
        if job is None or job.outcome is not None or self.groups[group].incarnation != incarnation:
            return True
        self._event("report", trial, step=step, metrics=metrics, scored=scored, last=last)
        seen = job.last_scored["step"] if job.last_scored else 0
        # A trial that was started again repeats steps that Tune has seen.
        if scored and step >= seen:
            job.last_scored = {"step": step, "values": metrics, "last": last}
            if step > seen:
                job.results.append(job.last_scored)
        return job.stop

    def log_progress(self, trial: str, text: str) -> None:
        """Take a sentence about a worker's progress, for the user."""
        self._event("progress", trial, text=text)

    def log_error(self, work: str, error: str) -> None:
        """Take an error of background work, for the driver to count."""
        self._event("background_error", "", work=work, error=error)

    def log_checkpoint(self, trial: str, step: int) -> None:
        """Take note of a checkpoint."""
        self._event("checkpoint", trial, step=step)

    def log_phase(self, incarnation: str, group: int, phase: str) -> None:
        """Take note of what a group does with its order, in a few words."""
        state = self.groups[group]
        if state.incarnation == incarnation and state.order is not None:
            state.phase = phase

    def now(self) -> list[GroupState]:
        """Return what every group does."""
        return [_state_of(number, group) for number, group in self.groups.items()]

    def finish(
        self, incarnation: str, group: int, rank: int, trial: str, outcome: dict[str, Any]
    ) -> None:
        """Take one rank's end of a trial; the group is idle when all its ranks have ended."""
        state = self.groups[group]
        if state.incarnation != incarnation or state.order is None or state.order.trial != trial:
            return
        state.finished.add(rank)
        job = self.jobs.get(trial)
        if RULES[outcome.get("fault", "error")].retry:
            # These processes end; the trial is tried again when their successors join.
            state.pending_fault, state.since = outcome, time.time()
        elif job and job.outcome is None and (rank == 0 or outcome["state"] == "failed"):
            job.end(outcome)
        if len(state.finished) == state.size and state.pending_fault is None:
            state.order, state.finished, state.since = None, set(), time.time()

    def wait_for_room(self, group: int) -> None:
        """Take back the trial of a group whose processes died and find no room to start again."""
        state = self.groups[group]
        if state.incarnation:
            self._abandon(state, "a worker process died", "worker_crash")
            self.groups[group] = Group(lost=state.lost)

    def lose(self, group: int, reason: str) -> None:
        """Take out a group that cannot be started again."""
        state = self.groups[group]
        self._abandon(state, reason, "worker_crash")
        state.lost, state.since = True, time.time()
        state.incarnation = ""
        if all(each.lost for each in self.groups.values()):
            for trial in list(self.queue):
                reason_left = f"no worker group is left: {reason}"
                self._end_queued(self.jobs[trial], "failed", reason_left)

    # Rules behind both.

    def _hand_out(self, group: int, state: Group) -> None:
        job = self.jobs[self.queue.popleft()]
        job.attempts += 1
        job.since = time.time()
        self._orders += 1
        state.order = Order(self._orders, job.trial, job.kind, job.settings)
        state.finished, state.since = set(), time.time()
        state.phase = "scoring the base model" if job.kind == "base" else "loading the model"
        self._event("started", job.trial, group=group, attempt=job.attempts)

    def _abandon(self, state: Group, reason: str, fault: Fault) -> None:
        """Queue the group's unfinished trial again at the front, or end it as failed."""
        if state.order is None:
            return
        job = self.jobs.get(state.order.trial)
        if state.pending_fault is not None and fault != "node_lost":
            reason, fault = state.pending_fault["reason"], state.pending_fault["fault"]
        state.order, state.finished, state.pending_fault = None, set(), None
        if job is None or job.outcome is not None:
            return
        job.stop_clock()
        if not RULES[fault].counted and job.uncounted_attempts < MOST_UNCOUNTED:
            job.uncounted_attempts += 1
        counted = job.attempts - job.uncounted_attempts
        if job.stop:
            job.end({"state": "stopped", "reason": reason})
        elif counted > self.retries:
            times = f"{counted} time{'s' if counted > 1 else ''}"
            job.end({"state": "failed", "reason": f"{reason} ({times})", "fault": fault})
        else:
            self.queue.appendleft(job.trial)
            self._event("retried", job.trial, reason=reason, attempt=job.attempts, fault=fault)

    def _end_queued(self, job: Job, state: str, reason: str) -> None:
        self.queue.remove(job.trial)
        job.end({"state": state, "reason": reason})

    def _event(self, kind: str, trial: str, **details: Any) -> None:
        self.events.append({"event": kind, "trial": trial, "time": time.time(), **details})


def _state_of(number: int, group: Group) -> GroupState:
    trial, phase = None, "idle"
    if group.lost:
        phase = "lost"
    elif not group.incarnation or group.pending_fault is not None:
        phase = "starting"
    elif group.order is not None:
        phase = group.phase
        trial = group.order.trial if group.order.kind == "trial" else None
    return GroupState(number, phase, trial, group.since, sorted(group.places))
