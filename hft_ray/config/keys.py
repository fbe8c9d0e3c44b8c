"""Dotted keys of FILE: listing them, reading and replacing single settings."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, get_args, get_origin

from pydantic import BaseModel

from hft_ray.config.errors import ConfigError, Problem
from hft_ray.config.schema import Config
from hft_ray.config.sections.space import Choices, Interval

SPACE = "search.space."

UNSEARCHABLE = (
    *("name", "arm", "search", "cluster", "tracking", "evaluation", "tasks"),
    "model.use_liger_kernel",  # changes the model's classes for a worker's whole life
)
"""Sections and settings that belong to the whole sweep, so no trial can have its own."""
_INDECISIVE = (
    *("name", "search", "cluster.", "tracking.", "evaluation."),
    "selection.audit",
    "training.log_every",
    "training.checkpoint_every",
    "training.checkpoints_kept",
    "training.micro_batch_size",
    "training.zero_stage",
)
"""Beginnings of the keys that do not change what a run trains."""
FULL_FINE_TUNING = {"selection.ratio": 1.0}
"""The baseline of every sweep without arms."""


def flatten(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested mappings as one mapping with dotted keys; lists stay values."""
    flat: dict[str, Any] = {}
    for key, item in value.items():
        path = f"{prefix}{key}"
        if isinstance(item, Mapping) and item:
            flat |= flatten(item, f"{path}.")
        else:
            flat[path] = item
    return flat


def settings(config: Config) -> dict[str, Any]:
    """Return every setting of ``config`` by its dotted key, defaults included."""
    return flatten(config.model_dump(mode="json"))


def decisive(config: Config) -> dict[str, Any]:
    """Return the settings that decide what a run trains, as JSON gives them back.

    Tracking, the number of workers, and how often a run is logged or saved are not among them.
    """
    found = {key: x for key, x in settings(config).items() if not key.startswith(_INDECISIVE)}
    return json.loads(json.dumps(found))


def nested(assignments: Mapping[str, Any]) -> dict[str, Any]:
    """Return dotted keys as nested mappings, the inverse of :func:`flatten`."""
    result: dict[str, Any] = {}
    for path, value in assignments.items():
        place(result, path, value)
    return result


def place(target: dict[str, Any], path: str, value: Any) -> None:
    """Set ``target[a][b]...`` for the dotted ``path``, making mappings on the way.

    Raises:
        ConfigError: The path leads into a list, but to none of its entries.
    """
    *parents, last = _parts(path)
    node: Any = target
    for part in parents:
        place_in = _entry(node, part, path)
        child = node[place_in] if isinstance(node, list) else node.get(part)
        if not isinstance(child, (dict, list)):
            # ``model: NAME`` is short for ``model: {name: NAME}``: keep what the short form said.
            # So is the name of a suite in the place of its evaluations.
            shorts = {"adapter": "kind", "model": "name", "method": "kind", "scheduler": "kind"}
            short = shorts.get(part, "suite" if isinstance(node, list) else None)
            child = {short: child} if isinstance(child, str) and short else {}
            node[place_in] = child
        node = child
    node[_entry(node, last, path)] = value


def _parts(path: str) -> list[str]:
    """Return the keys that ``path`` leads through; a searched setting's name is one of them."""
    if not path.startswith(SPACE):
        return path.split(".")
    key = path.removeprefix(SPACE)
    head, _, field = key.rpartition(".")
    fields = {*Interval.model_fields, *Choices.model_fields}
    return [*SPACE.split(".")[:2], *((head, field) if field in fields else (key,))]


def _entry(node: Any, part: str, path: str) -> Any:
    """Return ``part`` as a key of ``node``, as a number if that is a list."""
    if not isinstance(node, list):
        return part
    if not part.isdecimal() or int(part) >= len(node):
        allowed = f"0 to {len(node) - 1}" if node else "none, it is empty"
        raise ConfigError(Problem(path, f"leads into a list; its entries are {allowed}", part))
    return int(part)


def with_settings(config: Config, assignments: Mapping[str, Any]) -> Config:
    """Return ``config`` with the dotted ``assignments`` put in, validated again.

    Raises:
        pydantic.ValidationError: A value is not allowed for its key.
    """
    raw = config.model_dump(mode="json", exclude_unset=True)
    for path, value in assignments.items():
        place(raw, path, value)
        # steps and epochs exclude each other: the one that is set now replaces the other.
        for one, other in (("steps", "epochs"), ("epochs", "steps")):
            if path == f"training.{one}" and value is not None:
                raw["training"].pop(other, None)
    return Config.model_validate(raw)


def section_models(annotation: Any) -> Iterator[type[BaseModel]]:
    """Yield the section classes that a field's annotation holds (unions, lists, mappings)."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
        return
    for argument in get_args(annotation):
        yield from section_models(argument)


def containers(annotation: Any) -> set[Any]:
    """Return what a field's annotation is made of: unions, lists, mappings."""
    inner = (containers(argument) for argument in get_args(annotation))
    return {get_origin(annotation)}.union(*inner)


def known_keys(model: type[BaseModel] = Config, prefix: str = "") -> list[str]:
    """Return every dotted key of FILE that holds one value."""
    keys: list[str] = []
    for name, field in model.model_fields.items():
        inner = list(section_models(field.annotation))
        if len(inner) == 1 and not {list, dict} & containers(field.annotation):
            keys += known_keys(inner[0], f"{prefix}{name}.")
        else:
            keys.append(f"{prefix}{name}")
    return keys


def searchable_keys() -> list[str]:
    """Return the dotted keys that a trial can have a value of its own for."""
    return [key for key in known_keys() if not {key, key.split(".")[0]} & set(UNSEARCHABLE)]


def searched_values(config: Config, key: str) -> list[Any]:
    """Return the values that ``key`` can take: its choices, both ends, or the one value of FILE."""
    entry = config.search.space.get(key) if config.search else None
    if isinstance(entry, Choices):
        return list(entry.choices)
    if entry is not None:
        return [entry.low, entry.high]
    value: Any = config
    for part in key.split("."):
        value = getattr(value, part)
    return [value]
