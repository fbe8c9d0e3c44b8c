"""Addresses of the tracking store and of artifacts."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

from hft_ray.config import ConfigError, Problem
from hft_ray.config.secrets import NOT_HERE, holds_secret

_SERVERS = ("http", "https", "databricks")
_DATABASES = ("sqlite", "postgresql", "mysql", "mssql")


def tracking_uri(uri: str | None, root: Path) -> str:
    """Return the absolute URI of the tracking store; by default sqlite under the storage root.

    Raises:
        ConfigError: MLflow cannot write to such a URI, or it contains a password.
    """
    if uri is None:
        return sqlite_uri(root.resolve() / "mlflow.db")
    if holds_secret(uri):
        raise ConfigError(Problem("tracking.uri", NOT_HERE))
    try:
        parts = urlsplit(uri)
        port, host = parts.port, parts.hostname
    except ValueError as error:
        raise ConfigError(Problem("tracking.uri", f"is not an address: {error}")) from error
    scheme = parts.scheme.split("+")[0]
    if uri != "databricks" and scheme not in (*_SERVERS, *_DATABASES):
        allowed = ", ".join(f"{each}://" for each in (*_SERVERS, *_DATABASES))
        raise ConfigError(Problem("tracking.uri", f"must begin with one of {allowed}", uri))
    if scheme in ("http", "https") and not (host and port != 0 and re.fullmatch(r"\S+", uri)):
        raise ConfigError(Problem("tracking.uri", f"must look like {scheme}://HOST:PORT", uri))
    if scheme == "sqlite":
        if not re.search(r":///.", uri):
            message = "must be sqlite:///FILE or, of an absolute path, sqlite:////FOLDER/FILE"
            raise ConfigError(Problem("tracking.uri", message, uri))
        # Ray changes the working directory of its processes.
        query = f"?{parts.query}" if parts.query else ""
        return sqlite_uri(_path_in(uri).resolve(), parts.scheme) + query
    return uri


def sqlite_uri(path: Path, scheme: str = "sqlite") -> str:
    """Return the address of a database file, whatever characters its path has.

    SQLAlchemy decodes ``%XX`` in the path of an address, and takes what follows ``?`` for options.
    """
    return f"{scheme}:///{str(path).replace('%', '%25').replace('?', '%3F')}"


def sqlite_path(uri: str) -> Path | None:
    """Return the database file of an address; None if it is not one of sqlite."""
    return _path_in(uri) if urlsplit(uri).scheme.split("+")[0] == "sqlite" else None


def _path_in(uri: str) -> Path:
    return Path(unquote(uri.split(":///", 1)[-1].partition("?")[0]))


def artifact_location(uri: str, root: Path) -> str | None:
    """Return where a new experiment keeps its artifacts; None leaves it to the server."""
    if uri == "databricks" or urlsplit(uri).scheme in _SERVERS:
        return None
    return (root.resolve() / "artifacts").as_uri()
