"""Writing events to MLflow so that writing one twice changes nothing.

A run is found by its tags before one is created; if a lost answer led to two runs, the empty one is
deleted. A parameter is written once. A metric is written once per key and step, so that a resumed
trial may repeat steps. All methods block: they belong on the writer's threads, of which one writes
only artifacts.
"""

from __future__ import annotations

import errno
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from hft_ray.tracking import names
from hft_ray.tracking.data_sets import decoded, has_inputs
from hft_ray.tracking.environment import open_client, prepare_environment
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
from hft_ray.tracking.location import sqlite_path
from hft_ray.tracking.logged_models import Models
from hft_ray.tracking.notes import EXPERIMENT_NOTE

T = TypeVar("T")

REFUSALS = {
    "INVALID_PARAMETER_VALUE",
    "BAD_REQUEST",
    "RESOURCE_DOES_NOT_EXIST",
    "RESOURCE_ALREADY_EXISTS",
    "NOT_FOUND",
    "NOT_IMPLEMENTED",
}
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR}


class UnavailableError(Exception):
    """The store did not take the event now; it may later."""


class RejectedError(Exception):
    """The store will never take the event."""


class Store:
    """One experiment of one MLflow store.

    Args:
        uri: Tracking URI.
        experiment: Name of the experiment, created when it is missing.
        artifacts: Where a new experiment keeps artifacts; None leaves it to the store.
        warn: Called with what was dropped and why.
    """

    def __init__(
        self, uri: str, experiment: str, artifacts: str | None, warn: Callable[[str], None]
    ) -> None:
        prepare_environment()
        self._uri = uri
        self._experiment = experiment
        self._artifacts = artifacts
        self._warn = warn
        self._client: Any = None
        self._experiment_id = ""
        self._runs: dict[tuple[str, str | None], str] = {}
        self._tags: dict[str, dict[str, str]] = {}
        self._steps: dict[str, dict[str, set[int]]] = {}
        self._latest: dict[str, dict[str, int]] = {}
        self._inputs: dict[str, Any] = {}
        self._models: Models | None = None
        self._created: set[str] = set()
        self._attempts: Counter[tuple[str, str | None]] = Counter()

    def run_id(self, sweep: str, trial: str | None) -> str | None:
        """Return the run of a sweep or trial from memory, without asking the store."""
        return self._runs.get((sweep, trial))

    def write(self, events: Sequence[Event]) -> None:
        """Write one event, or metrics of one run.

        Raises:
            UnavailableError: The store is away; the same call may succeed later.
            RejectedError: The events can never be written.
        """
        event = events[0]
        with translated():
            match event:
                case Open():
                    self._open(event)
                case Tags():
                    self._set_tags(self._run(event), event.tags)
                case Artifact():
                    self._log_artifact(self._run(event), event)
                case Finish():
                    self._finish(self._run(event), event)
                case EnsureFinished():
                    self._ensure_finished(event)
                case Inputs():
                    self._log_inputs(event)
                case FrontModel():
                    self._log_model(event)
                case FrontMembers():
                    self._mark_models(event)
                case _:
                    self._log_metrics([each for each in events if isinstance(each, Metrics)])

    def _log_metrics(self, events: Sequence[Metrics]) -> None:
        """Write the metrics of one run, 1,000 in a request."""
        from mlflow.entities import Metric

        run_id = self._run(events[0])
        fresh: dict[tuple[str, int], Any] = {}
        for event in events:
            for name, value in event.values.items():
                key = names.valid_key(name)
                if not self._has(run_id, key, event.step):
                    metric = Metric(key, value, event.time, event.step)
                    fresh.setdefault((key, event.step), metric)
        for batch in _batches(fresh.items(), names.METRICS_PER_BATCH):
            self._connected().log_batch(run_id, metrics=[metric for _, metric in batch])
            for (key, step), _ in batch:
                self._logged(run_id, key).add(step)

    def _connected(self) -> Any:
        if self._client is None:
            if (path := sqlite_path(self._uri)) is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
            self._client = open_client(self._uri)
        if not self._experiment_id:
            self._experiment_id = self._find_experiment()
        return self._client

    def _find_experiment(self) -> str:
        found = self._client.get_experiment_by_name(self._experiment)
        if found is None:
            found = make_experiment(self._client, self._experiment, self._artifacts)
        if (problem := deleted(found)) is not None:
            raise UnavailableError(problem)
        if names.NOTE not in found.tags:
            self._client.set_experiment_tag(found.experiment_id, names.NOTE, EXPERIMENT_NOTE)
        return str(found.experiment_id)

    def _run(self, event: Event) -> str:
        run_id = self._find_run(event.sweep, event.trial)
        if run_id is None:
            raise RejectedError(f"no run of sweep {event.sweep!r}, trial {event.trial!r}")
        return run_id

    def _find_run(self, sweep: str, trial: str | None) -> str | None:
        known = self._runs.get((sweep, trial))
        if known is not None:
            return known
        found = self._runs_of(sweep, trial)
        if not found:
            return None
        run_id = str(found[0].info.run_id)
        self._runs[sweep, trial] = run_id
        self._tags[run_id] = dict(found[0].data.tags)
        self._latest[run_id] = {
            each.key: int(each.step) for each in found[0].data.to_proto().metrics
        }
        self._delete_twins(found, run_id)
        return run_id

    def _runs_of(self, sweep: str, trial: str | None) -> list[Any]:
        """Return the runs of a sweep or trial, the one that counts first.

        There are two if the answer to the first request was lost and the store carried out both
        requests: then one of them has nothing but its tags.
        """
        wanted = _identity(sweep, trial)
        found = self._connected().search_runs(
            [self._experiment_id],
            filter_string=" and ".join(f"tags.`{k}` = '{v}'" for k, v in wanted.items()),
            order_by=["attributes.start_time ASC"],
            max_results=100,
        )
        return sorted(found, key=_is_bare)

    def _delete_twins(self, runs: Iterable[Any], run_id: str) -> None:
        for run in runs:
            if run.info.run_id != run_id and _is_bare(run):
                self._connected().delete_run(run.info.run_id)

    def _open(self, event: Open) -> None:
        run_id = self._find_run(event.sweep, event.trial)
        tags = {**event.tags, names.STATE: "running"}
        logged: dict[str, str] = {}
        inputs = None
        if run_id is None:
            run_id = self._create(event, tags)
        else:
            run = self._connected().get_run(run_id)
            logged, inputs = dict(run.data.params), run.inputs
            if run.info.status != "RUNNING":
                self._connected().update_run(run_id, status="RUNNING")
            if names.NOTE in run.data.tags:
                # The user may have written another.
                tags.pop(names.NOTE, None)
            self._set_tags(run_id, tags)
        self._log_params(run_id, event, logged)
        if event.trial is not None and not has_inputs(inputs):
            self._inherit_inputs(run_id, event.sweep)

    def _log_inputs(self, event: Inputs) -> None:
        """Log the data sets of a sweep; those that it has already stay as they are."""
        data = [decoded(each) for each in event.data]
        self._connected().log_inputs(self._run(event), datasets=data)
        self._inputs.pop(event.sweep, None)

    def _inherit_inputs(self, run_id: str, sweep: str) -> None:
        """Give a trial the inputs of its sweep: data sets and the base model."""
        client = self._connected()
        if sweep not in self._inputs:
            self._inputs[sweep] = client.get_run(self._find_run(sweep, None)).inputs
        inputs = self._inputs[sweep]
        if has_inputs(inputs):
            client.log_inputs(run_id, inputs.dataset_inputs, inputs.model_inputs)

    def _log_model(self, event: FrontModel) -> None:
        run_id = self._run(event)
        self._model_store().write(self._connected().get_run(run_id), event)
        if event.trial is None:
            self._inputs.pop(event.sweep, None)

    def _mark_models(self, event: FrontMembers) -> None:
        self._run(event)
        self._model_store().mark(event)

    def _model_store(self) -> Models:
        client = self._connected()
        if self._models is None:
            self._models = Models(client, self._experiment_id, self._warn)
        return self._models

    def _create(self, event: Open, tags: dict[str, str]) -> str:
        tags |= _identity(event.sweep, event.trial)
        if event.trial is not None:
            above = names.split_key(event.trial)
            over = above[0] if above[1] is not None else None
            parent = self._find_run(event.sweep, over)
            if parent is None:
                raise RejectedError(
                    f"no run of {over or event.sweep!r}, so none of {event.trial!r}"
                )
            tags[names.PARENT] = parent
            above_it = self._tags[parent]
            tags = {key: above_it[key] for key in names.INHERITED if key in above_it} | tags
        tags = _cut(tags)
        client = self._connected()
        self._attempts[event.sweep, event.trial] += 1
        run = client.create_run(
            self._experiment_id,
            start_time=event.time,
            tags=tags,
            run_name=event.sweep if event.trial is None else event.trial,
        )
        run_id = str(run.info.run_id)
        self._runs[event.sweep, event.trial] = run_id
        self._tags[run_id] = tags
        self._created.add(run_id)
        return run_id

    def _log_params(self, run_id: str, event: Open, logged: dict[str, str]) -> None:
        from mlflow.entities import Param

        changed = [k for k, v in event.params.items() if k in logged and logged[k] != v]
        if changed:
            self._warn(
                f"{event.trial or event.sweep}: parameters keep their first value in the "
                f"tracking store: {', '.join(changed)}"
            )
        new = [Param(key, value) for key, value in event.params.items() if key not in logged]
        for batch in _batches(new, names.PARAMS_PER_BATCH):
            self._connected().log_batch(run_id, params=batch)

    def _set_tags(self, run_id: str, tags: dict[str, str]) -> None:
        from mlflow.entities import RunTag

        known = self._tags.setdefault(run_id, {})
        new = {key: text for key, text in _cut(tags).items() if known.get(key) != text}
        for batch in _batches(new.items(), names.PARAMS_PER_BATCH):
            self._connected().log_batch(run_id, tags=[RunTag(key, text) for key, text in batch])
        known.update(new)

    def _has(self, run_id: str, key: str, step: int) -> bool:
        """Return whether the store has the metric at this step, without asking if that is known."""
        if self._latest.get(run_id, {}).get(key) == step:
            return True
        return step in self._logged(run_id, key)

    def _logged(self, run_id: str, key: str) -> set[int]:
        """Return the steps at which the metric is in the store."""
        keys = self._steps.setdefault(run_id, {})
        if key not in keys:
            # What a run did not have when it was found has been written here, if at all.
            new = run_id in self._created or key not in self._latest.get(run_id, {key: 0})
            history = [] if new else self._connected().get_metric_history(run_id, key)
            keys[key] = {int(metric.step) for metric in history}
        return keys[key]

    def _log_artifact(self, run_id: str, event: Artifact) -> None:
        target = PurePosixPath(event.path)
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / target.name
            if event.file is None:
                copy.write_text(event.text or "", encoding="utf-8")
            elif Path(event.file).is_file():
                shutil.copyfile(event.file, copy)
            else:
                raise RejectedError(f"artifact {event.path}: the file {event.file} is gone")
            parent = None if target.parent == PurePosixPath() else str(target.parent)
            self._connected().log_artifact(run_id, str(copy), parent)

    def _finish(self, run_id: str, event: Finish) -> None:
        self._connected().set_terminated(run_id, names.STATUS[event.state], end_time=event.time)
        # After that: a run with this tag is taken to have ended, here and by later processes.
        self._set_tags(run_id, {names.STATE: event.state, names.REASON: event.reason or ""})
        if self._attempts[event.sweep, event.trial] > 1:
            # An earlier request may have been carried out after the last one.
            self._delete_twins(self._runs_of(event.sweep, event.trial), run_id)
        del self._attempts[event.sweep, event.trial]
        # A run that goes on later reads its steps from the store again.
        self._steps.pop(run_id, None)
        self._latest.pop(run_id, None)
        self._created.discard(run_id)

    def _ensure_finished(self, event: EnsureFinished) -> None:
        sweep, trial, time = event.sweep, event.trial, event.time
        run_id = self._find_run(sweep, trial)
        if run_id is not None and self._tags[run_id].get(names.STATE) == event.state:
            self._set_tags(run_id, event.tags)
            return
        if run_id in self._created:
            self._set_tags(run_id, event.tags)
        else:
            self._open(Open(sweep, trial, time, event.params, event.tags))
        self._log_metrics([Metrics(sweep, trial, time, event.step, event.values)])
        self._finish(
            self._runs[sweep, trial], Finish(sweep, trial, time, event.state, event.reason)
        )


def make_experiment(client: Any, name: str, artifacts: str | None) -> Any:
    """Create an experiment, or return the one that another sweep has just created."""
    from mlflow.exceptions import MlflowException

    try:
        client.create_experiment(name, artifact_location=artifacts, tags=names.EXPERIMENT_TAGS)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    return client.get_experiment_by_name(name)


def deleted(experiment: Any) -> str | None:
    """Return how to restore a deleted experiment, None if it is not deleted."""
    if experiment.lifecycle_stage == "active":
        return None
    return (
        f"experiment {experiment.name!r} was deleted; restore it with "
        f"`mlflow experiments restore --experiment-id {experiment.experiment_id}`"
    )


@contextmanager
def translated() -> Iterator[None]:
    """Translate errors of MLflow and its databases into the two errors above."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except MlflowException as error:
        kind = RejectedError if error.error_code in REFUSALS else UnavailableError
        raise kind(str(error)) from error
    except OSError as error:
        # An artifact that may not be written, as opposed to a disk that is full or away.
        kind = RejectedError if error.errno in _FORBIDDEN else UnavailableError
        raise kind(f"{type(error).__name__}: {error}") from error
    except SQLAlchemyError as error:
        raise UnavailableError(f"{type(error).__name__}: {error}") from error


def _identity(sweep: str, key: str | None) -> dict[str, str]:
    """Return the tags that identify the run of a sweep, a trial or a variant."""
    if key is None:
        return {names.KIND: "sweep", names.SWEEP: sweep}
    trial, variant = names.split_key(key)
    tags = {names.KIND: "trial", names.SWEEP: sweep, names.TRIAL: trial}
    return tags if variant is None else tags | {names.KIND: "variant", names.VARIANT: variant}


def _is_bare(run: Any) -> bool:
    """Return whether nothing but tags has been written to a run."""
    return not (run.data.params or run.data.metrics)


def _cut(tags: dict[str, str]) -> dict[str, str]:
    return {names.valid_key(key): str(text)[: names.LONGEST_TAG] for key, text in tags.items()}


def _batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
