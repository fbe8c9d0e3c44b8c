"""``search.space`` as Optuna distributions, conditional settings included."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import optuna

from hft_ray.config import Choices, Config, Interval
from hft_ray.config.combinations import applies, ordered
from hft_ray.config.keys import settings

Entry = Interval | Choices
Primitive = (type(None), bool, int, float, str)


def suggest(
    trial: optuna.Trial,
    space: Mapping[str, Entry],
    asked: Mapping[str, Any],
    config: Config,
    prefix: str = "",
) -> dict[str, Any]:
    """Ask ``trial`` for every searched setting that applies.

    Args:
        trial: An Optuna trial.
        space: Dotted key -> what may be tried.
        asked: Settings that this trial is to have whatever the space says. Those inside the space
            are queued in ``trial`` already; the others Optuna cannot hold.
        config: FILE, whose values stand for searched settings that do not apply.
        prefix: What Optuna's name of a setting has before the key.

    Returns:
        Dotted key -> value, the asked ones included. Any other setting whose ``when`` does not hold
        is left out, and so keeps FILE's value.
    """
    chosen: dict[str, Any] = dict(asked)
    defaults = settings(config)
    for key in ordered(space):
        entry = space[key]
        outside = key in asked and not contains(entry, asked[key])
        if not outside and applies(entry, chosen, defaults):
            chosen[key] = _suggest_one(trial, f"{prefix}{key}", entry)
    return chosen


def _suggest_one(trial: optuna.Trial, name: str, entry: Entry) -> Any:
    match entry:
        case Choices():
            labels = [_label(value) for value in entry.choices]
            label = trial.suggest_categorical(name, labels)
            return entry.choices[labels.index(label)]
        case Interval(low=int(low), high=int(high)):
            return trial.suggest_int(name, low, high, log=entry.log)
        case _:
            return trial.suggest_float(name, float(entry.low), float(entry.high), log=entry.log)


def contains(entry: Entry, value: Any) -> bool:
    """Whether ``value`` lies in what ``entry`` allows."""
    if isinstance(entry, Choices):
        return any(value == choice and type(value) is type(choice) for choice in entry.choices)
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and entry.low <= value <= entry.high


def parameter(entry: Entry, value: Any) -> Any:
    """Return ``value`` as Optuna stores it."""
    return _label(value) if isinstance(entry, Choices) else value


def _label(value: Any) -> Any:
    # Optuna's categories are primitives; anything else is searched by its JSON text.
    return value if isinstance(value, Primitive) else json.dumps(value)
