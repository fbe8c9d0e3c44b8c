"""Checks before a sweep begins whether its tracking store can be written.

A store that can never be written is an error. A store that may come back is an outage, during which
a sweep runs on and its events wait on disk.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from hft_ray.config import ConfigError, Problem
from hft_ray.tracking.environment import open_client, prepare_environment
from hft_ray.tracking.location import artifact_location, sqlite_path
from hft_ray.tracking.store import REFUSALS, deleted, make_experiment

_URI, _EXPERIMENT = "tracking.uri", "tracking.experiment"
_DENIED = (401, 403)
_MAY_PASS = (408, 425, 429)
"""Status codes below 500 of a server that may answer otherwise later."""
_MAY_PASS_TEXTS = ("connection", "timeout", "timed out", "could not connect", "is locked")
_NEVER_TEXTS = ("authentication failed", "does not exist", "no password supplied")
_MARK = "hft_ray.used"
"""Tag of the experiment, set to see whether the store takes anything."""


class _Outage(Exception):  # noqa: N818
    """The store does not answer now."""


def probe(uri: str, experiment: str, root: Path, write: bool = True) -> str | None:
    """Return why the store cannot be reached now, None if it can be used.

    Args:
        uri: Tracking URI, from :func:`~hft_ray.tracking.tracking_uri`.
        experiment: Name of the MLflow experiment; made when it is missing, if ``write``.
        root: Storage root.
        write: Write a tag to the experiment, and make what is missing. Else nothing is written.

    Raises:
        ConfigError: The store can never be written as it is; the message says what to do.
    """
    prepare_environment()
    place = artifact_location(uri, root)
    try:
        if urlsplit(uri).scheme in ("http", "https"):
            _ask_server(uri)
        path = sqlite_path(uri)
        if path is not None:
            if path.exists() and not path.is_file():
                raise _never(_URI, "is not a file, as a database of sqlite is", uri)
            _look_at_folder(_URI, path.parent, write)
        if path is None or write or path.exists():
            place = _look_at_experiment(uri, experiment, place, write)
        if place is not None:
            _look_at_artifacts(place, write)
    except _Outage as outage:
        return str(outage)
    return None


def _ask_server(uri: str) -> None:
    """Ask for a list of experiments, by MLflow's own means: its credentials and certificates."""
    from mlflow.exceptions import MlflowException
    from mlflow.utils.credentials import get_default_host_creds
    from mlflow.utils.rest_utils import http_request

    try:
        answer = http_request(
            get_default_host_creds(uri),
            "/api/2.0/mlflow/experiments/search",
            "POST",
            json={"max_results": 1},
            raise_on_status=False,
        )
    except (MlflowException, OSError) as error:
        if "CERTIFICATE_VERIFY_FAILED" in str(error):
            raise _never(_URI, "its certificate cannot be verified", uri) from error
        raise _Outage(_line(error)) from error
    status = answer.status_code
    if status >= 500 or status in _MAY_PASS:
        raise _Outage(f"it answers with status {status}")
    if status in _DENIED:
        message = (
            f"the tracking server refuses the credentials (status {status}); set "
            "MLFLOW_TRACKING_TOKEN, or MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
        )
        raise _never(_URI, message, uri)
    if status != 200 or not _is_mlflow(answer):
        kind = answer.headers.get("Content-Type", "no content type").partition(";")[0]
        message = f"no MLflow server answers there: status {status}, {kind}"
        raise _never(_URI, message, uri)


def _is_mlflow(answer: Any) -> bool:
    try:
        content = answer.json()
    except ValueError:
        return False
    # An empty list is left out of the answer.
    return isinstance(content, dict) and content.keys() <= {"experiments", "next_page_token"}


def _look_at_experiment(uri: str, name: str, artifacts: str | None, write: bool) -> str | None:
    """Open the store and the experiment; return where its artifacts go, if that is known."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        client = open_client(uri)
        found = client.get_experiment_by_name(name)
        if found is not None and (problem := deleted(found)) is not None:
            raise ConfigError(Problem(_EXPERIMENT, problem))
        if found is None and write:
            found = make_experiment(client, name, artifacts)
        if write:
            client.set_experiment_tag(found.experiment_id, _MARK, "true")
    except ConfigError:
        raise
    except MlflowException as error:
        raise _of_mlflow(error, uri) from error
    except SQLAlchemyError as error:
        raise _of_database(error, uri) from error
    except Exception as error:
        # A database driver that is not installed, an unknown revision of the schema, ...
        message = f"the tracking store cannot be used: {type(error).__name__}: {_line(error)}"
        raise _never(_URI, message, uri) from error
    return artifacts if found is None else str(found.artifact_location)


def _of_mlflow(error: Any, uri: str) -> Exception:
    text = str(error)
    if error.error_code in ("PERMISSION_DENIED", "UNAUTHENTICATED", "CUSTOMER_UNAUTHORIZED"):
        return _never(_URI, f"the tracking server refuses to be written: {_line(error)}", uri)
    if "database schema" in text:
        message = (
            f"the database is of another version of MLflow: {_line(error)} Or install that "
            "version, or name another store"
        )
        return _never(_URI, message, uri)
    if error.error_code in REFUSALS:
        return _never(_EXPERIMENT, f"the tracking store refuses it: {_line(error)}", uri)
    return _of_database(error, uri)


def _of_database(error: Exception, uri: str) -> Exception:
    text = str(error).lower()
    passes = any(part in text for part in _MAY_PASS_TEXTS) and sqlite_path(uri) is None
    if (passes or "is locked" in text) and not any(part in text for part in _NEVER_TEXTS):
        return _Outage(_line(error))
    if urlsplit(uri).scheme in ("http", "https"):
        return _Outage(_line(error))
    return _never(_URI, f"the tracking store cannot be used: {_line(error)}", uri)


def _look_at_artifacts(place: str, write: bool) -> None:
    parts = urlsplit(place)
    if parts.scheme in ("", "file"):
        _look_at_folder("the experiment's artifacts", Path(unquote(parts.path)), write)


def _look_at_folder(what: str, folder: Path, write: bool) -> None:
    """Refuse a folder in which no file can be made."""
    try:
        if write:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                return
        above = next(path for path in (folder, *folder.parents) if path.exists())
        if not (above.is_dir() and os.access(above, os.W_OK | os.X_OK)):
            raise PermissionError(f"{above} is not a directory that can be written")
    except OSError as error:
        message = f"nothing can be written there: {error.strerror or error}"
        raise _never(what, message, str(folder)) from error


def _never(path: str, message: str, given: str) -> ConfigError:
    return ConfigError(Problem(path, message, given))


def _line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
