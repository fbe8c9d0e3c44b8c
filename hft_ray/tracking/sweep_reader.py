"""Reads a sweep from MLflow, with all that its front needs."""

from __future__ import annotations

import json
import math
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hft_ray.config import ConfigError, Problem, nearest
from hft_ray.tracking import names
from hft_ray.tracking.environment import open_client
from hft_ray.tracking.location import sqlite_path
from hft_ray.tracking.store import RejectedError, UnavailableError, translated
from hft_ray.tracking.values import decode_params


@dataclass(frozen=True)
class TimeSpan:
    """Start of a run, and its end unless it is running; seconds since 1970."""

    began: float
    ended: float | None


@dataclass(frozen=True)
class TrialRecord:
    """A trial in MLflow.

    Attributes:
        trial: Trial id.
        run_id: Its run.
        state: running, complete, pruned, failed or stopped.
        params: Its configuration, flattened; values have their types.
        metrics: Last value of every metric.
        tags: All tags of the run.
        variant: Name of the variant, None for the trained model itself.
        span: Its start and end.
    """

    trial: str
    run_id: str
    state: str
    params: dict[str, Any]
    metrics: dict[str, float]
    tags: dict[str, str]
    variant: str | None
    span: TimeSpan
    _client: Any = field(repr=False, compare=False)

    def history(self, metric: str) -> list[tuple[int, float]]:
        """Return every (step, value) of a metric by step, from MLflow."""
        found = self._client.get_metric_history(self.run_id, metric)
        return sorted((int(each.step), _value(each.value)) for each in found)


@dataclass(frozen=True)
class SweepRecord:
    """A sweep in MLflow.

    Attributes:
        objectives: Objective -> max or min. It is empty, as are ``reference_point`` and ``base``,
            if the sweep ended before the base model was scored.
        trials: By the time at which they started, then by id.
        variants: Variants of the trained models, in the same order.
        span: Its start and end.
    """

    name: str
    run_id: str
    experiment_id: str
    state: str
    params: dict[str, Any]
    metrics: dict[str, float]
    tags: dict[str, str]
    objectives: dict[str, str]
    reference_point: dict[str, float]
    base: dict[str, float]
    trials: list[TrialRecord]
    variants: list[TrialRecord]
    span: TimeSpan
    _client: Any = field(repr=False, compare=False)

    def artifact(self, path: str) -> bytes:
        """Download a file of the sweep, such as ``config.yaml`` or ``front/front.json``."""
        with tempfile.TemporaryDirectory() as folder:
            local = self._client.download_artifacts(self.run_id, path, folder)
            return Path(local).read_bytes()

    @contextmanager
    def file(self, path: str) -> Iterator[Path | None]:
        """Yield a temporary local copy of a file of the sweep, None if the file does not exist."""
        folder, _, _ = path.rpartition("/")
        known = {each.path for each in self._client.list_artifacts(self.run_id, folder or None)}
        if path not in known:
            yield None
            return
        with tempfile.TemporaryDirectory() as place:
            yield Path(self._client.download_artifacts(self.run_id, path, place))


def read_sweep(uri: str, experiment: str, name: str) -> SweepRecord:
    """Return the sweep of that name.

    Args:
        uri: Tracking URI, from :func:`~hft_ray.tracking.tracking_uri`.
        experiment: Name of the MLflow experiment.
        name: Name of the sweep.

    Raises:
        ConfigError: There is no such store, experiment or sweep, or the store does not answer.
    """
    client, parent = find_sweep(uri, experiment, name)
    with answering(uri):
        return _sweep(client, parent, name)


def _sweep(client: Any, parent: Any, name: str) -> SweepRecord:
    experiment_id = parent.info.experiment_id
    metrics = _metrics(parent)
    tags = dict(parent.data.tags)
    start = len(names.BASE_PREFIX)
    return SweepRecord(
        name=name,
        run_id=parent.info.run_id,
        experiment_id=experiment_id,
        state=tags.get(names.STATE, "running"),
        params=decode_params(parent.data.params),
        metrics=metrics,
        tags=tags,
        objectives=json.loads(tags.get(names.OBJECTIVES, "{}")),
        reference_point=json.loads(tags.get(names.REFERENCE_POINT, "{}")),
        base={k[start:]: x for k, x in metrics.items() if k.startswith(names.BASE_PREFIX)},
        trials=_trials(client, experiment_id, name, "trial"),
        variants=_trials(client, experiment_id, name, "variant"),
        span=_span(parent),
        _client=client,
    )


def find_sweep(uri: str, experiment: str, name: str) -> tuple[Any, Any]:
    """Return an MLflow client and the sweep's run; arguments and errors as :func:`read_sweep`."""
    with answering(uri):
        client, experiment_id = _open(uri, experiment)
        sweeps = {
            run.data.tags[names.SWEEP]: run for run in runs_of(client, experiment_id, "sweep")
        }
    if name not in sweeps:
        message = f"no sweep of this name in experiment {experiment!r}"
        raise ConfigError(Problem("NAME", message + nearest(name, sweeps), name))
    return client, sweeps[name]


@contextmanager
def answering(uri: str) -> Iterator[None]:
    """Raise :class:`ConfigError` if the store does not answer."""
    try:
        with translated():
            yield
    except (RejectedError, UnavailableError) as error:
        message = f"the tracking store does not answer: {str(error).splitlines()[0][:300]}"
        raise ConfigError(Problem("tracking.uri", message, uri)) from error


def sweep_names(uri: str, experiment: str) -> list[str]:
    """Return the names of the sweeps in an experiment, oldest first; raises as read_sweep."""
    with answering(uri):
        client, experiment_id = _open(uri, experiment)
        return [run.data.tags[names.SWEEP] for run in runs_of(client, experiment_id, "sweep")]


def _open(uri: str, experiment: str) -> tuple[Any, str]:
    path = sqlite_path(uri)
    if path is not None and not path.exists():
        # MLflow would create an empty store.
        message = "has no tracking store; give another place with --storage or --tracking-uri"
        raise ConfigError(Problem("tracking.uri", message, uri))
    client = open_client(uri)
    found = client.get_experiment_by_name(experiment)
    if found is None:
        known = [each.name for each in client.search_experiments()]
        message = "no such experiment in the tracking store" + nearest(experiment, known)
        raise ConfigError(Problem("tracking.experiment", message, experiment))
    return client, str(found.experiment_id)


def runs_of(client: Any, experiment_id: str, kind: str, sweep: str | None = None) -> Iterator[Any]:
    """Yield all runs of a kind, oldest first, requested page by page."""
    wanted = f"tags.`{names.KIND}` = '{kind}'"
    if sweep is not None:
        wanted += f" and tags.`{names.SWEEP}` = '{sweep}'"
    token = None
    while True:
        page = client.search_runs(
            [experiment_id],
            filter_string=wanted,
            order_by=["attributes.start_time ASC"],
            max_results=1000,
            page_token=token,
        )
        yield from page
        token = page.token
        if not token:
            return


def _trials(client: Any, experiment_id: str, sweep: str, kind: str) -> list[TrialRecord]:
    runs = sorted(
        runs_of(client, experiment_id, kind, sweep),
        key=lambda run: (run.info.start_time, run.data.tags[names.TRIAL]),
    )
    return [_trial(run, client) for run in runs]


def _trial(run: Any, client: Any) -> TrialRecord:
    tags = dict(run.data.tags)
    return TrialRecord(
        trial=tags[names.TRIAL],
        run_id=run.info.run_id,
        state=tags.get(names.STATE, "running"),
        params=decode_params(run.data.params),
        metrics=_metrics(run),
        tags=tags,
        variant=tags.get(names.VARIANT),
        span=_span(run),
        _client=client,
    )


def _span(run: Any) -> TimeSpan:
    """Return a run's start and end; a continued run keeps its earlier end in the store."""
    ended = None if run.info.status == "RUNNING" else run.info.end_time
    return TimeSpan(run.info.start_time / 1000, None if ended is None else ended / 1000)


def _metrics(run: Any) -> dict[str, float]:
    return {name: _value(value) for name, value in run.data.metrics.items()}


def _value(stored: float) -> float:
    """Return the value that was logged: databases store infinity as the largest number."""
    return math.copysign(math.inf, stored) if abs(stored) >= sys.float_info.max else stored
