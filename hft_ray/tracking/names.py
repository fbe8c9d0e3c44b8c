"""Tags, metric prefixes and limits: what users and dashboards rely on in MLflow."""

from __future__ import annotations

import re

KIND = "hft_ray.kind"
SWEEP = "hft_ray.sweep"
TRIAL = "hft_ray.trial"
VARIANT = "hft_ray.variant"
ARM = "hft_ray.arm"
"""Tag of a trial or variant of a sweep with arms: the arm that it belongs to."""
WEIGHTS = "hft_ray.weights"
"""Tag of a trial or variant: whether its weights are kept, or why they were deleted."""
STATE = "hft_ray.state"
PARETO = "hft_ray.pareto"
EXPORT = "hft_ray.export"
"""Tag of a model: the command that writes its weights."""
REASON = "hft_ray.reason"
CONFIGURATION = "hft_ray.configuration"
"""Tag of a trial of a sweep with several seeds: what it shares with those of equal settings."""
FAULT = "hft_ray.fault"
"""Tag of a trial that failed: the kind of fault, such as out_of_memory or not_finite."""
OBJECTIVES = "hft_ray.objectives"
"""Tag of the sweep: JSON, objective -> max or min."""
REFERENCE_POINT = "hft_ray.reference_point"
"""Tag of the sweep: JSON, objective -> value."""
JOB = "hft_ray.job"
"""Tag of the sweep: submission id, when it is a Ray job's entrypoint; JOB.KEY its metadata."""
DRIVER = "hft_ray.driver"
"""Tag of the sweep: an id of the process that runs it, another at every start."""
ALIVE = "hft_ray.alive"
"""Tag of the sweep: when its driver last said that it is there, seconds since 1970."""
GROUP = "hft_ray.group."
"""Tag of the sweep: GROUP and a number: JSON, what this worker group does now."""
STOP = "hft_ray.stop"
"""Tag of the sweep: MODE DRIVER SECONDS asks that driver to end; empty when there is no request."""
STOP_TAKEN = "hft_ray.stop_taken"
"""Tag of the sweep: the last request that its driver follows."""
COMPARED = "hft_ray.compared"
"""Tag of a comparison, whose kind is evaluation: JSON, names of the sweeps."""
PARENT = "mlflow.parentRunId"
NOTE = "mlflow.note.content"
"""Tag of a run or an experiment: its description, in Markdown."""
USER, SOURCE_NAME, SOURCE_TYPE = "mlflow.user", "mlflow.source.name", "mlflow.source.type"
CONTEXT = "mlflow.data.context"
"""Tag of a data set as an input of a run: what it is there for."""
EXTERNAL = "mlflow.model.isExternal"
"""Tag of a model: its files are not in MLflow's artifact store."""
INHERITED = (USER, SOURCE_NAME, SOURCE_TYPE)
"""Tags that a trial has from its sweep."""
EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}
"""Tags of a new experiment: MLflow's pages then begin with runs and not with traces of agents."""

BASE_PREFIX = "base/"
"""Metrics of the sweep: base/NAME is the untouched model's score on metric NAME."""

STATUS = {"complete": "FINISHED", "pruned": "KILLED", "failed": "FAILED", "stopped": "KILLED"}
"""State of a sweep or trial -> MLflow's status: a run that was cut short is KILLED there."""

LONGEST_KEY = 250
LONGEST_PARAM = 6000
LONGEST_TAG = 8000
METRICS_PER_BATCH = 1000
PARAMS_PER_BATCH = 100


def run_key(trial: str, variant: str | None) -> str:
    """Return the name under which events address the run of a trial or of one of its variants."""
    return trial if variant is None else f"{trial}+{variant}"


def split_key(key: str) -> tuple[str, str | None]:
    """Return trial and variant, the inverse of :func:`run_key`."""
    trial, _, variant = key.partition("+")
    return trial, variant or None


def valid_model(name: str) -> str:
    """Return ``name`` as MLflow accepts it for a model."""
    return re.sub(r"[/:.%\"'+ ]", "_", name)


def valid_key(key: str) -> str:
    """Return ``key`` as MLflow accepts it: other characters become ``_``, cut at the limit."""
    return re.sub(r"[^\w\-. :/]", "_", key, flags=re.ASCII)[:LONGEST_KEY]
