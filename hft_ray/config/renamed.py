"""Names that settings of FILE had before, and what they are called now."""

from __future__ import annotations

from typing import Any

KEYS = {
    "data.draw": "subset_seed",
    "model.shape": "architecture",
    "search.replicate": "seed_keys",
    "selection.drift": "strategy: least_drifted or most_drifted",
    "selection.leaving": "on_deselect",
    "selection.tasks": "across_tasks",
    "tasks.data.draw": "subset_seed",
}
"""Earlier dotted key, without the places in lists -> the setting of today, in the same section."""
VALUES = {
    "selection.strategy": {"drift": "least_drifted"},
    "training.moments": {"carry": "keep_selected", "store": "keep_all"},
}
"""Dotted key -> earlier value -> the value of today."""


def renamed_key(path: str) -> str | None:
    """Return what to say of an earlier key, None if ``path`` never was one."""
    new = KEYS.get(".".join(part for part in path.split(".") if not part.isdecimal()))
    return None if new is None else f"was renamed: write {new}"


def renamed_value(path: str, value: Any) -> str | None:
    """Return what to say of an earlier value, None if the setting never took it."""
    new = VALUES.get(path, {}).get(value) if isinstance(value, str) else None
    return None if new is None else f"was renamed: write {new}"
