"""Values that no record may hold, wherever they stand in it."""

from __future__ import annotations

import re
from typing import Any

DEEPEST = 100
"""Most levels of lists and objects inside each other."""
_SURROGATE = re.compile("[\ud800-\udfff]")


def flaw(record: Any) -> str | None:
    """Return what is wrong with a parsed record, or ``None``.

    Half of a surrogate pair is not text: it is left where a program cut a string between the two
    halves of a character such as an emoji. What is nested too deeply ends recursive programs.
    """
    waiting = [("", record, 0)]
    while waiting:
        name, value, depth = waiting.pop()
        if depth > DEEPEST:
            return f"is nested more than {DEEPEST} levels deep"
        if isinstance(value, str):
            if found := _SURROGATE.search(value):
                return _half(f"field {name!r}", found[0])
        elif isinstance(value, dict):
            for key, item in value.items():
                if found := _SURROGATE.search(key):
                    return _half("the name of a field", found[0])
                waiting.append((f"{name}.{key}" if name else key, item, depth + 1))
        elif isinstance(value, list):
            waiting += [(f"{name}[{index}]", item, depth + 1) for index, item in enumerate(value)]
    return None


def object_of(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a parsed JSON object: the ``object_pairs_hook`` that takes no key twice.

    Raises:
        ValueError: A key is there twice.
    """
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in found if keys.count(key) > 1)
        raise ValueError(f"the key {twice!r} is there twice in one object: keep one")
    return found


def _half(place: str, half: str) -> str:
    return (
        f"{place} holds half of a surrogate pair, \\u{ord(half):04x}, which is not valid text: "
        "it was cut in the middle of a character; write the whole character, or remove the half"
    )


def without_nulls(value: Any) -> Any:
    """Return ``value`` without the keys of nested objects that are null.

    Arrow gives every object of a column all keys that any of them has, so that tool calls of
    different functions have each other's arguments, as nulls.
    """
    if isinstance(value, list):
        return [without_nulls(item) for item in value]
    if isinstance(value, dict):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    return value
