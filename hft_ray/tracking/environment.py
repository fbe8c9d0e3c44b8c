"""MLflow as this project uses it: no telemetry, no retries of its own, imported late.

Importing MLflow takes seconds, so every import of it sits inside a function.
"""

from __future__ import annotations

import os
from typing import Any

from filelock import FileLock

from hft_ray.tracking.location import sqlite_path

LONGEST_MAKING = 600.0
"""Seconds that making the tables may take a machine that has much else to do."""

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
    """Set what MLflow reads when it is imported; what the user has set stays."""
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)


def open_client(uri: str) -> Any:
    """Return an ``MlflowClient`` of the store at ``uri``; a new sqlite store is created."""
    prepare_environment()
    from mlflow.tracking import MlflowClient

    path = sqlite_path(uri)
    if path is None:
        return MlflowClient(tracking_uri=uri)
    # MLflow makes its tables one after the other: whoever comes meanwhile waits for the last.
    with FileLock(f"{path}.lock", timeout=LONGEST_MAKING):
        return MlflowClient(tracking_uri=uri)
