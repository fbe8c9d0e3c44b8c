"""The searched settings of FILE as the sampler takes them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from hft_ray.config import Choices, Config, Interval
from hft_ray.config.keys import settings
from hft_ray.config.rules.combinations import applies, ordered
from hft_ray.search.bayes.encoding import Condition, Searched
from hft_ray.search.bayes.scales import same
from hft_ray.search.search_space import Space, parameter

Entry = Choices | Interval


def domain(config: Config, space: Space) -> list[Searched]:
    """Return the settings of ``config.search.space``, each after those that its ``when`` names.

    A setting whose ``when`` can never hold is left out.

    Args:
        config: FILE with ``search``.
        space: The names and distributions that Optuna has of it.
    """
    assert config.search is not None
    entries, defaults = config.search.space, settings(config)
    found: dict[str, Searched] = {}
    for key in ordered(entries):
        conditions = []
        for other in entries[key].when or {}:
            allowed, without = _holds(entries[key], other, entries.get(other), defaults)
            if other in found:
                conditions.append(Condition(found[other].name, allowed, without))
            elif not without:
                break
        else:
            [(name, distribution)] = space.distributions([key]).items()
            found[key] = Searched(name, distribution, tuple(conditions))
    return list(found.values())


def _holds(
    entry: Entry, other: str, parent: Entry | None, defaults: Mapping[str, Any]
) -> tuple[Callable[[Any], bool], bool]:
    """Return whether one condition holds, by what Optuna stores of ``other``, and without that."""
    assert entry.when is not None
    alone = entry.model_copy(update={"when": {other: entry.when[other]}})

    def allowed(stored: Any) -> bool:
        value = stored
        if isinstance(parent, Choices):
            choices = parent.choices
            value = next(each for each in choices if same(parameter(parent, each), stored))
        return applies(alone, {other: value}, defaults)

    return allowed, applies(alone, {}, defaults)
