"""Finds the fields that a record has under other names, to say how they should be called."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_ASKED = ("prompt", "question", "query", "problem", "instruction", "inputs", "input")
_ANSWERED = (
    *("response", "answer", "completion", "output", "solution", "target", "targets", "summary"),
)
_TURNS = ("conversation", "dialogue", "dialog", "items", "chat")

_OTHERS: Mapping[str, tuple[str, ...]] = {
    "prompt": _ASKED,
    "instruction": _ASKED,
    "input": ("context",),
    "completion": _ANSWERED,
    "answer": _ANSWERED,
    "output": _ANSWERED,
    "messages": _TURNS,
    "conversations": _TURNS,
    "text": ("content", "document"),
}
"""Field -> names that public data sets have for it."""

_FIELDS: Mapping[str, tuple[str, ...]] = {
    "prompt_completion": ("prompt", "completion"),
    "prompt_answer": ("prompt", "answer"),
    "alpaca": ("instruction", "input", "output"),
}
_BESIDE = ("system", "system_prompt", "history", "context")


def renames(record: Mapping[str, Any], form: str, name: str) -> str:
    """Return which fields to rename for a record that lacks the field ``name`` of its format.

    Returns:
        ``: rename 'a' to 'b' and 'c' to 'd'``, or "" where no other field seems to be ``name``.
    """
    found = _found(record, _FIELDS.get(form, (name,)))
    return _said(found) if name in found.values() else _as_any(record) if form in _FIELDS else ""


def renames_to_any(record: Mapping[str, Any]) -> str:
    """Return the same for a record that has no field of any format."""
    turns = _found(record, ("messages",))
    return _said(turns) if turns else _as_any(record)


def _as_any(record: Mapping[str, Any]) -> str:
    """Return how a record becomes one of a request and its answer."""
    form = "alpaca" if any(record.get(name) for name in _BESIDE) else "prompt_completion"
    found = _found(record, _FIELDS[form])
    return _said(found) if {*_FIELDS[form]} - {"input"} == {*found.values()} - {"input"} else ""


def _found(record: Mapping[str, Any], names: Sequence[str]) -> dict[str, str]:
    """Return the fields of the record that should have other names -> these names."""
    given = {name.strip().lower(): name for name in record}
    found: dict[str, str] = {}
    for name in names:
        kind = list if name in ("messages", "conversations") else str
        others = (given.get(other, "") for other in (name, *_OTHERS.get(name, ())))
        free = [
            other
            for other in others
            if isinstance(record.get(other), kind) and other not in (*found, *names)
        ]
        if name not in record and free:
            found[free[0]] = name
    return found


def _said(found: Mapping[str, str]) -> str:
    return ": rename " + " and ".join(f"{old!r} to {new!r}" for old, new in found.items())
