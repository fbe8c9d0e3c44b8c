"""``search.space`` as Optuna distributions, conditional settings included."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Mapping
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import FrozenTrial

from hft_ray.config import Choices, Config, Interval
from hft_ray.config.keys import settings
from hft_ray.config.rules.combinations import applies, ordered
from hft_ray.config.rules.narrowing import contains

Entry = Interval | Choices
Primitive = (type(None), bool, int, float, str)


class Space:
    """The searched settings, and the distributions that Optuna has stored of them.

    A sweep may go on with a narrower space. Optuna then refuses other choices for a parameter it
    knows, so such a setting continues under another name; the sampler sees earlier trials with the
    distributions of the present space.

    Args:
        entries: Dotted key -> what may be tried.
        trials: The study's trials.
        prefix: What Optuna's name of a setting has before the key.
    """

    def __init__(
        self,
        entries: Mapping[str, Entry],
        trials: Iterable[FrozenTrial] = (),
        prefix: str = "",
    ) -> None:
        self._entries = dict(entries)
        stored = {name: each for trial in trials for name, each in trial.distributions.items()}
        self._now = {key: _distribution(entry) for key, entry in entries.items()}
        self._names = {
            key: _name(f"{prefix}{key}", each, stored) for key, each in self._now.items()
        }
        self._unchanged: set[int] = set()

    def suggest(
        self, trial: optuna.Trial, asked: Mapping[str, Any], config: Config
    ) -> dict[str, Any]:
        """Ask ``trial`` for every searched setting that applies.

        Args:
            trial: An Optuna trial.
            asked: Settings of this trial, also outside the space. Those inside the space are queued
                in ``trial`` already; Optuna cannot store the others.
            config: FILE, whose values stand for searched settings that do not apply.

        Returns:
            Dotted key -> value, the asked ones included. Any other setting whose ``when`` does not
            hold is left out, and so keeps FILE's value.
        """
        chosen: dict[str, Any] = dict(asked)
        defaults = settings(config)
        for key in ordered(self._entries):
            entry = self._entries[key]
            outside = key in asked and not contains(entry, asked[key])
            if not outside and applies(entry, chosen, defaults):
                chosen[key] = self._suggest_one(trial, key, entry)
        return chosen

    def _suggest_one(self, trial: optuna.Trial, key: str, entry: Entry) -> Any:
        name = self._names[key]
        match entry:
            case Choices():
                labels = [_label(value) for value in entry.choices]
                label = trial.suggest_categorical(name, labels)
                return entry.choices[labels.index(label)]
            case Interval(low=int(low), high=int(high)):
                return trial.suggest_int(name, low, high, log=entry.log)
            case _:
                ends = float(entry.low), float(entry.high)
                return trial.suggest_float(name, *ends, log=entry.log)

    def fits(self, params: Mapping[str, Any]) -> bool:
        """Whether every searched setting in ``params`` has a value that may be tried."""
        return all(contains(self._entries[k], x) for k, x in params.items() if k in self._entries)

    def parameters(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Return what lies inside the space as Optuna stores it."""
        return {
            self._names[key]: parameter(self._entries[key], value)
            for key, value in params.items()
            if key in self._entries and contains(self._entries[key], value)
        }

    def distributions(self, params: Iterable[str]) -> dict[str, BaseDistribution]:
        """Return the distribution of each searched setting among the dotted keys ``params``."""
        return {self._names[key]: self._now[key] for key in params if key in self._now}

    def as_now(self, trial: FrozenTrial) -> FrozenTrial:
        """Return a trial that fits as if it had been drawn from the space as it is now."""
        if trial.number in self._unchanged:
            return trial
        now = {name: self._now[key] for key, name in self._names.items()}
        if all(now.get(name) == each for name, each in trial.distributions.items()):
            if trial.state.is_finished():
                # It stays as it is, and is looked at for every suggestion.
                self._unchanged.add(trial.number)
            return trial
        params = trial.user_attrs.get("params", {})
        moved = copy.copy(trial)
        moved.params, moved.distributions = self.parameters(params), self.distributions(params)
        return moved


def _distribution(entry: Entry) -> BaseDistribution:
    match entry:
        case Choices():
            return CategoricalDistribution([_label(value) for value in entry.choices])
        case Interval(low=int(low), high=int(high)):
            return IntDistribution(low, high, log=entry.log)
        case _:
            return FloatDistribution(float(entry.low), float(entry.high), log=entry.log)


def _name(first: str, now: BaseDistribution, stored: Mapping[str, BaseDistribution]) -> str:
    """Return the first name under which Optuna has nothing else."""
    name, number = first, 1
    while isinstance(now, CategoricalDistribution) and stored.get(name, now) != now:
        number += 1
        name = f"{first}~{number}"
    return name


def parameter(entry: Entry, value: Any) -> Any:
    """Return ``value`` as Optuna stores it."""
    return _label(value) if isinstance(entry, Choices) else value


def _label(value: Any) -> Any:
    # Optuna's categories are primitives; anything else is searched by its JSON text.
    return value if isinstance(value, Primitive) else json.dumps(value)
