"""A queue of events for the store: in memory, and on disk while the store is away.

While events are on disk, later ones are appended there, so that their order is kept. If the disk is
full they stay in memory. Events that the store refuses are put aside and do not delay others.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from itertools import islice, takewhile

from hft_ray.background import BackgroundErrors, Worker, backoff, in_a_line
from hft_ray.tracking.events import Event, Metrics
from hft_ray.tracking.spool import Spool
from hft_ray.tracking.store import RejectedError, UnavailableError

log = logging.getLogger(__name__)
_REPLAY_AT_ONCE = 500
_ATTEMPTS = 3
"""Attempts at an event that raises an unforeseen error, before it is put aside."""


class Outbox:
    """Delivers events in a background thread; :meth:`put` never waits.

    Args:
        work: Name of the store, for the user.
        write: Writes one event, or metrics of one run.
        spool: Where events wait while the store is away.
        refused: Where events wait that the store refuses.
        errors: Takes what the user should know.
        retry: First and longest pause between two attempts while the store is away, in seconds.
        capacity: Metric events that wait in memory at most, a tenth of those that wait on disk at
            most; more are dropped.
        on_outage: Called with True when the store is away, with False when it is back.
    """

    def __init__(
        self,
        work: str,
        write: Callable[[list[Event]], None],
        spool: Spool,
        *,
        refused: Spool,
        errors: BackgroundErrors,
        retry: tuple[float, float],
        capacity: int,
        on_outage: Callable[[bool], None] = lambda away: None,
    ) -> None:
        self._work, self._write = work, write
        self._spool, self._refused = spool, refused
        self._errors, self._on_outage = errors, on_outage
        self._retry, self._capacity = retry, capacity
        self._changed = threading.Condition()
        self._queue: list[Event] = []
        self._shown: set[str] = set()
        self._away = False
        self._failures, self._pauses, self._next_attempt = 0, 0, 0.0
        self.dropped = 0
        self._worker = Worker(work, self._step, errors.caught, retry)
        self.wake()

    def put(self, event: Event) -> None:
        """Append an event."""
        with self._changed:
            full = len(self._queue) >= self._capacity or len(self._spool) >= 10 * self._capacity
            if full and isinstance(event, Metrics):
                self.dropped += 1
            else:
                self._queue.append(event)
        self.wake()

    def flush(self, timeout: float) -> bool:
        """Wait until all is written or put aside; return whether it is."""
        with self._changed:
            return self._changed.wait_for(self._idle, timeout)

    def wake(self) -> None:
        """Read the spool, to which others have added."""
        self._worker.wake()

    def close(self, timeout: float) -> int:
        """End; what is not written stays on disk.

        Returns:
            How many events are not in the store and could not be put on disk either.
        """
        self._worker.close(timeout)
        with self._changed:
            # If a call to the store hangs, its events may be written twice, which is harmless.
            self._spool_rest(list(self._queue))
            return len(self._queue)

    def _idle(self) -> bool:
        return not (self._queue or len(self._spool))

    def _step(self) -> float | None:
        if self.dropped:
            self._show_once(
                "dropped", f"too many events wait for the {self._work}: metrics are dropped"
            )
        due = time.monotonic() >= self._next_attempt
        batch, done = list(self._queue), 0
        if due and not len(self._spool):
            done = self._deliver(batch)
            self._dequeue(done)
        self._spool_rest(batch[done:])
        if due and len(self._spool):
            self._replay()
        with self._changed:
            self._changed.notify_all()
        return None if self._idle() else max(0.0, self._next_attempt - time.monotonic())

    def _dequeue(self, count: int) -> None:
        with self._changed:
            del self._queue[:count]

    def _spool_rest(self, rest: list[Event]) -> None:
        """Move the undelivered events, the oldest of the queue, to disk."""
        try:
            self._spool.append(rest)
        except OSError as error:
            place = self._spool.path
            self._show_once("held", f"{place} cannot be written, events wait in memory: {error}")
        else:
            self._shown.discard("held")
            self._dequeue(len(rest))

    def _replay(self) -> None:
        was_away = self._away
        while batch := self._spool.peek(_REPLAY_AT_ONCE):
            events = [event for event, _ in batch if event is not None]
            if len(events) < len(batch):
                self._errors.tell(f"{self._spool.path}: skipped a broken line")
            done = self._deliver(events)
            whole = done == len(events)
            # Every line before the first event that is left has been dealt with.
            lines = len(batch) if whole else [event for event, _ in batch].index(events[done])
            with self._changed:
                self._spool.advance([length for _, length in batch[:lines]])
                self._changed.notify_all()
            if not whole:
                return
        if was_away:
            self._errors.tell(f"{self._work} reached again, everything is written")

    def _deliver(self, events: list[Event]) -> int:
        """Write the events in order; return how many are dealt with."""
        done = 0
        while done < len(events):
            group = _group(events, done)
            if not self._try(group):
                break
            self._failures = 0
            done += len(group)
        return done

    def _try(self, group: list[Event]) -> bool:
        """Write a group, or put it aside; return False if it is to be tried again later."""
        try:
            self._write(group)
        except UnavailableError as error:
            self._pause(error)
            return False
        except RejectedError as error:
            return self._put_aside(group, error)
        except Exception as error:  # noqa: BLE001 - later events must not wait
            self._errors.caught(self._work, error)
            self._failures += 1
            if self._failures < _ATTEMPTS:
                self._pause(None)
                return False
            return self._put_aside(group, error)
        self._pauses = 0
        if self._away:
            self._away = False
            self._on_outage(False)
        return True

    def _put_aside(self, group: list[Event], error: Exception) -> bool:
        if len(group) > 1:
            # One of them may be to blame.
            return all(self._try([event]) for event in group)
        self._refused.append(group)
        reason, place = in_a_line(str(error)), self._refused.path
        log.warning("%s: an event waits in %s: %s", self._work, place, reason)
        self._show_once(
            "refused", f"the {self._work} does not take an event, it waits in {place}: {reason}"
        )
        return True

    def _pause(self, outage: UnavailableError | None) -> None:
        """Wait before the next attempt, longer each time."""
        self._pauses += 1
        self._next_attempt = time.monotonic() + backoff(self._retry, self._pauses)
        if outage is not None and not self._away:
            self._away = True
            self._on_outage(True)
            where = self._spool.path
            self._errors.tell(
                f"{self._work} not reached; the sweep continues, and its events wait in {where}: "
                f"{in_a_line(str(outage))}"
            )

    def _show_once(self, what: str, text: str) -> None:
        if what not in self._shown:
            self._shown.add(what)
            self._errors.tell(text)


def _group(events: list[Event], start: int) -> list[Event]:
    """Return the event at ``start`` and, if it is metrics, those of the same run that follow."""
    first = events[start]

    def belongs(event: Event) -> bool:
        run = (event.sweep, event.trial)
        return isinstance(event, Metrics) and run == (first.sweep, first.trial)

    rest = islice(events, start + 1, None)
    return [first, *takewhile(belongs, rest if isinstance(first, Metrics) else ())]
