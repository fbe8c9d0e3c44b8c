"""The background writer: training hands events over and never waits for MLflow.

Events wait in memory, and on disk while the store is away. Order is kept: once anything is on disk,
later events go behind it, until all of it is written. A disk that takes nothing leaves them in
memory.
"""

from __future__ import annotations

import json
import logging
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from hft_ray.tracking import names
from hft_ray.tracking.events import Artifact, Event, Finish, Metrics, Open, Settle, Tags
from hft_ray.tracking.spool import Spool
from hft_ray.tracking.store import RejectedError, Store, UnavailableError
from hft_ray.tracking.values import encode_params

State = Literal["complete", "pruned", "failed", "stopped"]

_LOGGER = logging.getLogger(__name__)
_REPLAY_AT_ONCE = 500
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._=,+-]{0,199}")


class Tracker:
    """Writes one sweep and its trials to MLflow, from a thread of its own.

    No method but :meth:`flush` and :meth:`close` waits, and none raises because of MLflow: what
    goes wrong is told to ``on_problem`` (from the writer's thread) and to the logger. Opening a
    sweep or a trial that MLflow knows already continues its run.

    Where a trial is asked for, its id is meant, or for a variant what ``run_key`` makes of both.

    Args:
        uri: Tracking URI, from :func:`~hft_ray.tracking.tracking_uri`.
        experiment: Name of the MLflow experiment.
        spool: Folder of the sweep in which events wait while the store is away.
        artifacts: Where a new experiment keeps its artifacts, from
            :func:`~hft_ray.tracking.artifact_location`.
        on_problem: Called with one sentence for every problem.
        on_outage: Called with True when the store is away, with False when it is back.
        retry: First and longest pause between two attempts while the store is away, in seconds.
        capacity: Metric events that wait in memory at most, a tenth of those that wait on disk at
            most; more are dropped, with a warning.
    """

    def __init__(
        self,
        uri: str,
        experiment: str,
        *,
        spool: Path,
        artifacts: str | None = None,
        on_problem: Callable[[str], None] | None = None,
        on_outage: Callable[[bool], None] = lambda away: None,
        retry: tuple[float, float] = (1.0, 30.0),
        capacity: int = 100_000,
    ) -> None:
        self._on_problem, self._on_outage = on_problem, on_outage
        self._retry = retry
        self._capacity = capacity
        self._sweep = ""
        self._store = Store(uri, experiment, artifacts, self._problem)
        self._spool = Spool(spool)
        self._changed = threading.Condition()
        self._queue: deque[Event] = deque()
        self._taken: list[Event] = []
        self._dropped = 0
        self._closing = False
        self._held = False
        self._pause = 0.0
        self._next_attempt = 0.0
        self._thread = threading.Thread(target=self._main, name="tracking", daemon=True)
        self._thread.start()

    def open_sweep(
        self, name: str, config_yaml: str, params: Mapping[str, Any], tags: Mapping[str, str]
    ) -> None:
        """Start or continue the parent run; comes before everything else.

        Raises:
            ValueError: The name has characters that no sweep may have.
        """
        self._sweep = _checked(name)
        self._put(Open(name, None, params=encode_params(params), tags=dict(tags)))
        self.log_artifact(config_yaml, "config.yaml")

    def describe_front(
        self,
        objectives: Mapping[str, str],
        reference_point: Mapping[str, float],
        base: Mapping[str, float],
    ) -> None:
        """Record what a front is judged by, so that it can be rebuilt from tracking alone.

        Objectives and reference point become tags of the parent run (JSON), the base model's
        scores its metrics ``base/NAME``.
        """
        described = {
            names.OBJECTIVES: json.dumps(dict(objectives)),
            names.REFERENCE_POINT: json.dumps(dict(reference_point)),
        }
        self._put(Tags(self._sweep, None, tags=described))
        self.log_sweep(0, {f"{names.BASE_PREFIX}{name}": x for name, x in base.items()})

    def open_trial(self, trial: str, params: Mapping[str, Any], tags: Mapping[str, str]) -> None:
        """Start or continue a trial's run; ``params`` is its resolved configuration, flattened.

        Raises:
            ValueError: The id has characters that no trial id may have.
        """
        event = Open(self._sweep, _checked(trial), params=encode_params(params), tags=dict(tags))
        self._put(event)

    def log(self, trial: str, step: int, metrics: Mapping[str, float]) -> None:
        """Log a trial's metrics; a step that a metric has already is left as it is."""
        self._put_metrics(trial, step, metrics)

    def log_sweep(self, step: int, metrics: Mapping[str, float]) -> None:
        """Log metrics of the sweep, ``step`` being the number of finished trials."""
        self._put_metrics(None, step, metrics)

    def set_trial_tags(self, trial: str, tags: Mapping[str, str]) -> None:
        """Set tags of a trial; tags it has already cost nothing."""
        self._put(Tags(self._sweep, trial, tags=dict(tags)))

    def set_pareto(self, on_front: Mapping[str, bool]) -> None:
        """Tag the run of each trial, or variant, with whether it is on the front."""
        for key, on in on_front.items():
            self.set_trial_tags(key, {names.PARETO: "true" if on else "false"})

    def set_configuration(self, trial: str, configuration: str) -> None:
        """Tag a trial's run with what it shares with the other seeds of its configuration."""
        self.set_trial_tags(trial, {names.CONFIGURATION: configuration})

    def set_weights(self, key: str, what: str) -> None:
        """Tag the run of a trial, or variant, with what became of its weights."""
        self.set_trial_tags(key, {names.WEIGHTS: what})

    def set_arm(self, key: str, arm: str) -> None:
        """Tag the run of a trial, or variant, with its arm."""
        self.set_trial_tags(key, {names.ARM: arm})

    def log_artifact(
        self, content: Path | str, artifact_path: str, trial: str | None = None
    ) -> None:
        """Log a file of the sweep or a trial: a text, or a local file when ``content`` is a Path.

        The file is read when it is written to the store, so it has to stay where it is.
        """
        if isinstance(content, Path):
            event = Artifact(self._sweep, trial, path=artifact_path, file=str(content.resolve()))
        else:
            event = Artifact(self._sweep, trial, path=artifact_path, text=content)
        self._put(event)

    def finish_trial(self, trial: str, state: State, reason: str | None = None) -> None:
        """End a trial's run."""
        self._put(Finish(self._sweep, trial, state=state, reason=reason))

    def settle_trial(
        self,
        trial: str,
        params: Mapping[str, Any],
        step: int,
        metrics: Mapping[str, float],
        state: State,
        reason: str | None = None,
    ) -> None:
        """See to it that a trial of an earlier process is there, with its last metrics and its end.

        A process that is killed takes along what it had not written yet. A trial whose run has
        ended in this state already is left as it is.
        """
        values = {name: float(value) for name, value in metrics.items()}
        self._put(
            Settle(
                self._sweep,
                _checked(trial),
                params=encode_params(params),
                step=step,
                values=values,
                state=state,
                reason=reason,
            )
        )

    def finish_sweep(self, state: State) -> None:
        """End the parent run."""
        self._put(Finish(self._sweep, None, state=state))

    def run_id(self, trial: str | None = None) -> str | None:
        """Return the run of a trial, or of the sweep; None while it is not written yet."""
        return self._store.run_id(self._sweep, trial)

    def flush(self, timeout: float) -> bool:
        """Wait until everything is written; return whether it is."""
        with self._changed:
            self._changed.wait_for(lambda: self._idle() or not self._thread.is_alive(), timeout)
            return self._idle()

    def close(self, timeout: float = 30.0) -> bool:
        """Write what is left and end the writer; what cannot be written stays on disk.

        Returns:
            Whether everything reached the store. If not, the next tracker with the same spool
            folder writes it.
        """
        written = self.flush(timeout)
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join(timeout=max(1.0, self._retry[0]))
        with self._changed:
            # A call to the store that hangs: its events may be written twice, which is harmless.
            self._save_all()
        if not written:
            self._problem(f"tracking store not reached; the rest waits in {self._spool.path}")
        return written

    def _put_metrics(self, trial: str | None, step: int, metrics: Mapping[str, float]) -> None:
        values = {name: float(value) for name, value in metrics.items()}
        self._put(Metrics(self._sweep, trial, step=int(step), values=values))

    def _put(self, event: Event) -> None:
        with self._changed:
            if isinstance(event, Metrics) and self._full():
                self._dropped += 1
                return
            self._queue.append(event)
            self._changed.notify_all()

    def _full(self) -> bool:
        return len(self._queue) >= self._capacity or len(self._spool) >= 10 * self._capacity

    def _idle(self) -> bool:
        return not (self._queue or self._taken or len(self._spool))

    def _main(self) -> None:
        try:
            while not self._closing:
                self._take()
                self._work()
        finally:
            # Also after an error nobody foresaw: nothing is lost, training goes on.
            with self._changed:
                self._save_all()
                self._changed.notify_all()

    def _take(self) -> None:
        """Wait for events, or for the next attempt while events wait on disk."""
        with self._changed:
            waiting = len(self._spool) or self._held
            pause = max(0.0, self._next_attempt - time.monotonic()) if waiting else None
            self._changed.wait_for(lambda: self._closing or (self._queue and not self._held), pause)
            self._taken = list(self._queue)
            self._queue.clear()
            dropped, self._dropped = self._dropped, 0
        if dropped:
            self._problem(
                f"{dropped} metric events were dropped: too many wait for the tracking store"
            )

    def _work(self) -> None:
        if len(self._spool):
            self._settle(self._taken)
            if time.monotonic() >= self._next_attempt and not self._closing:
                self._replay()
        else:
            self._settle(self._deliver(self._taken))

    def _settle(self, rest: list[Event]) -> None:
        """Put what was not delivered on disk, and wake who waits for the writer."""
        back: list[Event] = []
        try:
            self._spool.append(rest)
        except OSError as error:
            back = rest
            if not self._held:
                self._problem(
                    f"{self._spool.path} cannot be written, events wait in memory: {error}"
                )
        with self._changed:
            self._held = bool(back)
            self._queue.extendleft(reversed(back))
            self._taken = []
            self._changed.notify_all()

    def _save_all(self) -> None:
        rest = [*self._taken, *self._queue]
        try:
            self._spool.append(rest)
        except OSError as error:
            self._problem(f"{len(rest)} events are lost: {self._spool.path}: {error}")
        self._taken = []
        self._queue.clear()

    def _replay(self) -> None:
        while batch := self._spool.peek(_REPLAY_AT_ONCE):
            events = [event for event, _ in batch if event is not None]
            if len(events) < len(batch):
                self._problem(f"{self._spool.path}: skipped a broken line")
            rest = self._deliver(events)
            # Every line before the first event that is left has been dealt with.
            done = len(batch) if not rest else [event for event, _ in batch].index(rest[0])
            with self._changed:
                self._spool.advance([length for _, length in batch[:done]])
                self._changed.notify_all()
            if rest:
                return
        self._problem("tracking store reached again, everything is written")

    def _deliver(self, events: list[Event]) -> list[Event]:
        """Write the events; return those that the store could not take now."""
        position = 0
        while position < len(events):
            group = _group(events, position)
            try:
                self._write(group)
            except RejectedError as error:
                self._problem(f"not logged: {_first_line(error)}")
            except UnavailableError as error:
                self._postpone(error)
                return events[position:]
            position += len(group)
        if self._pause:
            self._pause = 0.0
            self._on_outage(False)
        return []

    def _write(self, group: list[Event]) -> None:
        metrics = [event for event in group if isinstance(event, Metrics)]
        if metrics:
            self._store.write_metrics(metrics)
        else:
            self._store.write(group[0])

    def _postpone(self, error: UnavailableError) -> None:
        if not self._pause:
            self._on_outage(True)
            self._problem(f"tracking store not reached, training goes on: {_first_line(error)}")
        first, longest = self._retry
        self._pause = min(max(first, 2 * self._pause), longest)
        self._next_attempt = time.monotonic() + self._pause

    def _problem(self, text: str) -> None:
        _LOGGER.warning(text)
        if self._on_problem is not None:
            self._on_problem(text)


def _group(events: list[Event], start: int) -> list[Event]:
    """Return the event at ``start`` and, if it is metrics, those of the same run that follow."""
    first = events[start]
    end = start + 1
    if isinstance(first, Metrics):
        while end < len(events) and isinstance(events[end], Metrics):
            if (events[end].sweep, events[end].trial) != (first.sweep, first.trial):
                break
            end += 1
    return events[start:end]


def _checked(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError(f"no valid name of a sweep or trial: {name!r}; allowed: {_NAME.pattern}")
    return name


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0][:300] if str(error) else type(error).__name__
