"""Passwords have no place in FILE: it is logged, kept beside the results and shown in reports."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

NOT_HERE = (
    "must not carry a password; set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or "
    "MLFLOW_TRACKING_TOKEN, in the environment, PGPASSWORD for a database"
)
_NAMES = ("password", "passwd", "pwd", "token", "secret", "api_key", "apikey", "access_key")


def holds_secret(uri: str) -> bool:
    """Return whether a URI carries a password, or a token in the place of a user or a parameter."""
    try:
        parts = urlsplit(uri)
    except ValueError:
        return False
    if parts.password is not None or (parts.scheme in ("http", "https") and parts.username):
        return True
    asked = parse_qs(parts.query, keep_blank_values=True)
    return any(name in key.lower() for key in asked for name in _NAMES)
