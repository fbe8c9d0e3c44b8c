"""JSON that every parser reads: it has no NaN and no infinity (RFC 8259, section 6).

What users read has null in their place. What this project reads back itself keeps them exactly.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any

_NOT_FINITE = "not_finite"


def dumps(value: Any, indent: int | None = None) -> str:
    """Return ``value`` as JSON; a number that is not finite becomes null."""
    return _dumps(value, indent, lambda number: None)


def dumps_exact(value: Any) -> str:
    """Return ``value`` as JSON from which :func:`loads_exact` makes it again."""
    return _dumps(value, None, lambda number: {_NOT_FINITE: str(number)})


def loads_exact(text: str | bytes) -> Any:
    """Return the value that :func:`dumps_exact` wrote.

    Raises:
        ValueError: The text is not JSON.
    """
    return json.loads(text, object_hook=_restored)


def _restored(content: dict[str, Any]) -> Any:
    return float(content[_NOT_FINITE]) if content.keys() == {_NOT_FINITE} else content


def _dumps(value: Any, indent: int | None, stand_in: Callable[[float], Any]) -> str:
    try:
        return json.dumps(value, indent=indent, allow_nan=False)
    except ValueError:
        return json.dumps(_finite(value, stand_in), indent=indent, allow_nan=False)


def _finite(value: Any, stand_in: Callable[[float], Any]) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else stand_in(value)
    if isinstance(value, Mapping):
        return {key: _finite(item, stand_in) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item, stand_in) for item in value]
    return value
