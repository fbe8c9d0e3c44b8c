"""The background writer: nothing waits for MLflow while trials run."""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

from hft_ray.background import BackgroundErrors
from hft_ray.tracking import names
from hft_ray.tracking.data_sets import DataSet
from hft_ray.tracking.events import (
    Artifact,
    EnsureFinished,
    Event,
    Finish,
    FrontMembers,
    FrontModel,
    Inputs,
    Metrics,
    Open,
    Tags,
)
from hft_ray.tracking.outbox import Outbox
from hft_ray.tracking.spool import Spool
from hft_ray.tracking.store import Store
from hft_ray.tracking.values import encode_params

State = Literal["complete", "pruned", "failed", "stopped"]

log = logging.getLogger(__name__)
WORK = "tracking store"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._=,+-]{0,199}")


class Tracker:
    """Writes one sweep and its trials to MLflow in background threads.

    Only :meth:`flush` and :meth:`close` wait. No method raises because of MLflow: errors go to
    ``errors``. Artifacts have their own queue, so that they do not delay metrics. Opening a sweep
    or a trial that MLflow has continues its run.

    A ``trial`` is a trial's id, or the ``run_key`` of a variant.

    Args:
        uri: Tracking URI, from :func:`~hft_ray.tracking.tracking_uri`.
        experiment: Name of the MLflow experiment.
        spool: Folder of the sweep in which events wait that are not in the store.
        artifacts: Where a new experiment keeps its artifacts, from
            :func:`~hft_ray.tracking.artifact_location`.
        errors: Takes what the user should know, and at the end what is not in the store.
        on_outage: Called with True when the store is away, with False when it is back.
        retry: First and longest pause between two attempts while the store is away, in seconds.
        capacity: Metric events that wait in memory at most, a tenth of those that wait on disk at
            most; more are dropped.
    """

    def __init__(
        self,
        uri: str,
        experiment: str,
        *,
        spool: Path,
        artifacts: str | None = None,
        errors: BackgroundErrors | None = None,
        on_outage: Callable[[bool], None] = lambda away: None,
        retry: tuple[float, float] = (1.0, 30.0),
        capacity: int = 100_000,
    ) -> None:
        self._uri, self._retry = uri, retry
        self._errors = errors or BackgroundErrors()
        self._sweep = ""
        self._store = Store(uri, experiment, artifacts, log.warning)
        self._waiting, self._artifacts_waiting, self._refused = (
            Spool(spool / f"{name}.jsonl") for name in ("tracking", "artifacts", "refused")
        )
        # What was refused is older than what waits; all of it is tried again, in order.
        if len(self._refused):
            self._move(self._waiting, self._refused)
            self._move(self._refused, self._waiting)
        box = partial(
            Outbox, refused=self._refused, errors=self._errors, retry=retry, capacity=capacity
        )
        self._artifacts = box("artifact store", self._store.write, self._artifacts_waiting)
        self._events = box(WORK, self._write, self._waiting, on_outage=on_outage)

    def open_sweep(
        self, name: str, config_yaml: str, params: Mapping[str, Any], tags: Mapping[str, str]
    ) -> None:
        """Start or continue the parent run; comes before everything else.

        Raises:
            ValueError: The name has characters that no sweep may have.
        """
        self._sweep = _checked(name)
        self._events.put(Open(name, None, params=encode_params(params), tags=dict(tags)))
        self.log_artifact(config_yaml, "config.yaml")

    def log_data(self, data: Sequence[DataSet]) -> None:
        """Log the data sets of the sweep, which trials that are opened later have as well."""
        self._events.put(Inputs(self._sweep, None, data=[each.encoded() for each in data]))

    def describe_front(
        self,
        objectives: Mapping[str, str],
        reference_point: Mapping[str, float],
        base: Mapping[str, float],
    ) -> None:
        """Log what a front needs besides its trials, to be rebuilt from tracking alone.

        Objectives and reference point become tags of the parent run (JSON), the base model's
        scores its metrics ``base/NAME``.
        """
        described = {
            names.OBJECTIVES: json.dumps(dict(objectives)),
            names.REFERENCE_POINT: json.dumps(dict(reference_point)),
        }
        self._events.put(Tags(self._sweep, None, tags=described))
        self.log_sweep(0, {f"{names.BASE_PREFIX}{name}": x for name, x in base.items()})

    def log_model(
        self,
        trial: str | None,
        params: Mapping[str, Any],
        tags: Mapping[str, str],
        step: int,
        metrics: Mapping[str, DataSet | None],
    ) -> None:
        """Log the model of a run of this sweep, with metrics that the run has by then.

        Args:
            trial: The run; None for the base model, which trials that are opened later start from.
            params: What tells the model from others.
            tags: Tags of the model, which replace earlier ones.
            step: Optimizer step at which it was taken.
            metrics: Metrics of the model -> the data set that they were measured on, if one.
        """
        linked = {name: [] if data is None else data.reference for name, data in metrics.items()}
        kind = {names.KIND: "base"} if trial is None else _tags_of(trial)
        event = FrontModel(
            self._sweep,
            trial,
            name=f"{self._sweep}-{trial or 'base'}",
            params=encode_params(params),
            tags=dict(tags) | kind,
            step=step,
            metrics=linked,
        )
        self._events.put(event)

    def log_members(self, members: Iterable[str]) -> None:
        """Log which runs are on the front; the models of others are marked to have left it."""
        self._events.put(FrontMembers(self._sweep, None, members=sorted(members)))

    def open_trial(self, trial: str, params: Mapping[str, Any], tags: Mapping[str, str]) -> None:
        """Start or continue a trial's run; ``params`` is its resolved configuration, flattened.

        Raises:
            ValueError: The id has characters that no trial id may have.
        """
        event = Open(self._sweep, _checked(trial), params=encode_params(params), tags=dict(tags))
        self._events.put(event)

    def log(self, trial: str, step: int, metrics: Mapping[str, float]) -> None:
        """Log a trial's metrics; a step that a metric has already is left as it is."""
        self._put_metrics(trial, step, metrics)

    def log_sweep(self, step: int, metrics: Mapping[str, float]) -> None:
        """Log metrics of the sweep, ``step`` being the number of finished trials."""
        self._put_metrics(None, step, metrics)

    def set_trial_tags(self, trial: str, tags: Mapping[str, str]) -> None:
        """Set tags of a trial's run; tags that it has already are not written again."""
        self._events.put(Tags(self._sweep, trial, tags=dict(tags)))

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
        self._events.put(event)

    def finish_trial(self, trial: str, state: State, reason: str | None = None) -> None:
        """End a trial's run as it is."""
        self._events.put(Finish(self._sweep, trial, state=state, reason=reason))

    def ensure_finished(
        self,
        trial: str,
        params: Mapping[str, Any],
        tags: Mapping[str, str],
        step: int,
        metrics: Mapping[str, float],
        state: State,
        reason: str | None = None,
    ) -> None:
        """End a trial's run, which then has at least these params, tags and metrics.

        An earlier process may have been killed before it wrote them. Of a run that has ended in
        this state only the tags are set.
        """
        values = {name: float(value) for name, value in metrics.items()}
        self._events.put(
            EnsureFinished(
                self._sweep,
                _checked(trial),
                params=encode_params(params),
                tags=dict(tags),
                step=step,
                values=values,
                state=state,
                reason=reason,
            )
        )

    def finish_sweep(self, state: State) -> None:
        """End the parent run."""
        self._events.put(Finish(self._sweep, None, state=state))

    def run_id(self, trial: str | None = None) -> str | None:
        """Return the run of a trial, or of the sweep; None while it is not written yet."""
        return self._store.run_id(self._sweep, trial)

    def flush(self, timeout: float, artifacts: bool = True) -> bool:
        """Wait until everything is written, or everything but artifacts; return whether it is."""
        end = time.monotonic() + timeout
        written = self._events.flush(timeout)
        return written and (
            not artifacts or self._artifacts.flush(max(0.0, end - time.monotonic()))
        )

    def close(self, timeout: float = 30.0) -> bool:
        """Write what is left and end the writer; what cannot be written stays on disk.

        Returns:
            Whether everything reached the store. If not, the next tracker with the same spool
            folder writes it.
        """
        end = time.monotonic() + timeout
        if self.flush(timeout) and len(self._refused):
            # A run that was missing then may be there now.
            self._move(self._refused, self._waiting)
            self._events.wake()
            self.flush(max(0.0, end - time.monotonic()))
        patience = max(1.0, self._retry[0])
        lost = sum(box.close(patience) for box in (self._events, self._artifacts))
        files = (self._waiting, self._artifacts_waiting, self._refused)
        left = [f"events wait on disk, {len(file)} in {file.path}" for file in files if len(file)]
        if lost:
            left.append(f"{lost} events could not be put on disk and are lost")
        if self._events.dropped:
            left.append(f"{self._events.dropped} metric events were dropped, too many waited")
        if left:
            self._errors.leave(
                WORK,
                f"not everything is in the tracking store {self._uri}: {'; '.join(left)}. "
                "The same command delivers what waits.",
            )
        return not left

    def _move(self, source: Spool, target: Spool) -> None:
        try:
            if broken := target.take_over(source):
                self._errors.tell(f"{source.path}: skipped {broken} broken lines")
        except OSError as error:
            self._errors.caught(WORK, error)

    def _put_metrics(self, trial: str | None, step: int, metrics: Mapping[str, float]) -> None:
        values = {name: float(value) for name, value in metrics.items()}
        self._events.put(Metrics(self._sweep, trial, step=int(step), values=values))

    def _write(self, group: list[Event]) -> None:
        """Write events; queue an artifact when its run has been written."""
        if isinstance(group[0], Artifact):
            self._artifacts.put(group[0])
        else:
            self._store.write(group)


def _tags_of(key: str) -> dict[str, str]:
    """Return the tags by which the model of a run names it."""
    trial, variant = names.split_key(key)
    tags = {names.KIND: "trial", names.TRIAL: trial}
    return tags if variant is None else tags | {names.KIND: "variant", names.VARIANT: variant}


def _checked(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"not a valid name of a sweep or trial: {name!r}; allowed: {_NAME.pattern}"
        )
    return name
