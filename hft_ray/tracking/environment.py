"""Sets MLflow up: no telemetry, no retries, imported late.

Importing MLflow takes seconds, so it is imported inside functions only.
"""

from __future__ import annotations

import getpass
import os
from contextlib import suppress
from typing import Any

from filelock import FileLock

from hft_ray.tracking import names
from hft_ray.tracking.location import sqlite_path

LONGEST_MAKING = 600.0
"""Seconds to wait for the tables, which a busy machine needs long to create."""

_SETTINGS = {
    # The writer retries by itself. A retry below it, after a lost answer, could create a run twice.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_CONFIGURE_LOGGING": "false",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "GIT_PYTHON_REFRESH": "quiet",
}


def prepare_environment() -> None:
    """Set the variables that MLflow reads on import, unless the user has set them."""
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)


def source_tags(source: str, job: bool = False) -> dict[str, str]:
    """Return the tags of MLflow that say what started a run, and who did.

    Args:
        source: FILE, or the function or command without one.
        job: Whether a cluster's job runs it.
    """
    tags = {names.SOURCE_NAME: source, names.SOURCE_TYPE: "JOB" if job else "LOCAL"}
    with suppress(KeyError, OSError, ImportError):  # a container's user may have no name
        tags[names.USER] = getpass.getuser()
    return tags


def open_client(uri: str) -> Any:
    """Return an ``MlflowClient`` of the store at ``uri``; a new sqlite store is created."""
    prepare_environment()
    from mlflow.tracking import MlflowClient

    path = sqlite_path(uri)
    if path is None:
        return MlflowClient(tracking_uri=uri)
    # MLflow creates its tables one after the other; another process has to wait for the last.
    with FileLock(f"{path}.lock", timeout=LONGEST_MAKING):
        return MlflowClient(tracking_uri=uri)
