"""Settings as MLflow's parameters, which are text, and back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from hft_ray.tracking.names import LONGEST_PARAM, valid_key


def encode_params(params: Mapping[str, Any]) -> dict[str, str]:
    """Return the parameters as text within MLflow's limits.

    Text stays as it is, unless it would read back as something else; all other values are JSON.
    Longer values are cut.
    """
    return {valid_key(key): _encode(value)[:LONGEST_PARAM] for key, value in params.items()}


def decode_params(params: Mapping[str, str]) -> dict[str, Any]:
    """Return the values that :func:`encode_params` wrote; text that is not JSON stays text."""
    return {key: _decode(text) for key, text in params.items()}


def _encode(value: Any) -> str:
    if isinstance(value, str) and _decode(value) is value:
        return value
    return json.dumps(value, default=str)


def _decode(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
