"""Logs a comparison of sweeps as a run."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hft_ray.tracking import names
from hft_ray.tracking.data_sets import has_inputs
from hft_ray.tracking.environment import open_client, source_tags
from hft_ray.tracking.store import RejectedError, UnavailableError, translated
from hft_ray.tracking.sweep_reader import runs_of


class NotLoggedError(Exception):
    """The store did not accept a run."""


def log_comparison(
    uri: str,
    experiment: str,
    sweeps: Sequence[str],
    metrics: Mapping[str, float],
    files: Sequence[Path],
) -> str:
    """Log a comparison and return its run.

    The run's kind is ``evaluation``, its tag ``hft_ray.compared`` the JSON list of the sweeps, its
    state complete; the files become the artifacts ``compare/NAME``.

    Args:
        uri: Tracking URI, from :func:`~hft_ray.tracking.tracking_uri`.
        experiment: Name of the MLflow experiment, which has the sweeps.
        sweeps: Names of the sweeps.
        metrics: Metric -> value.
        files: Files to keep.

    Raises:
        NotLoggedError: The store does not take the run; the message says why.
    """
    try:
        with translated():
            return _log(open_client(uri), experiment, sweeps, metrics, files)
    except (RejectedError, UnavailableError) as error:
        raise NotLoggedError(str(error).splitlines()[0]) from error


def _log(
    client: Any,
    experiment: str,
    sweeps: Sequence[str],
    metrics: Mapping[str, float],
    files: Sequence[Path],
) -> str:
    from mlflow.entities import Metric
    from mlflow.utils.time import get_current_time_millis

    now = get_current_time_millis()
    tags = {
        names.KIND: "evaluation",
        names.STATE: "complete",
        names.COMPARED: json.dumps(list(sweeps)),
    }
    name = f"compare {' '.join(sweeps)}"
    tags |= source_tags(f"hft-ray {name}")
    found = client.get_experiment_by_name(experiment)
    run = client.create_run(found.experiment_id, tags=tags, run_name=name)
    run_id = str(run.info.run_id)
    for each in runs_of(client, found.experiment_id, "sweep"):
        if each.data.tags[names.SWEEP] not in sweeps:
            continue
        # A search returns no models.
        inputs = client.get_run(each.info.run_id).inputs
        if has_inputs(inputs):
            client.log_inputs(run_id, inputs.dataset_inputs, inputs.model_inputs)
    logged = [Metric(names.valid_key(key), value, now, 0) for key, value in metrics.items()]
    client.log_batch(run_id, metrics=logged)
    for file in files:
        client.log_artifact(run_id, str(file), "compare")
    client.set_terminated(run_id, names.STATUS["complete"])
    return run_id
