"""The combinations of searched values that a trial may have."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from hft_ray.config.keys import settings
from hft_ray.config.schema import Config
from hft_ray.config.sections.space import Choices, Interval

_MOST = 2000
"""Most combinations to check; each takes a fraction of a millisecond."""


def combinations(config: Config) -> Iterator[dict[str, Any]]:
    """Yield what a trial may be asked to try: every choice, both ends of every interval.

    A setting whose ``when`` does not hold is left out. The 2,000 that differ in the settings named
    last come first, after those of ``search.first``.
    """
    assert config.search is not None
    space, defaults = config.search.space, settings(config)
    keys = ordered(space)
    starts: list[dict[str, Any]] = [{}, *config.search.first]
    for start in starts:
        yield from islice(_extend(dict(start), keys, space, defaults), _MOST)


def _extend(
    chosen: dict[str, Any],
    keys: list[str],
    space: Mapping[str, Choices | Interval],
    defaults: Mapping[str, Any],
) -> Iterator[dict[str, Any]]:
    if not keys:
        yield dict(chosen)
        return
    key, *rest = keys
    entry = space[key]
    if key in chosen or not applies(entry, chosen, defaults):
        yield from _extend(chosen, rest, space, defaults)
        return
    for value in entry.choices if isinstance(entry, Choices) else (entry.low, entry.high):
        yield from _extend(chosen | {key: value}, rest, space, defaults)


def ordered(space: Mapping[str, Choices | Interval]) -> list[str]:
    """Return the keys so that each comes after those its ``when`` names (cycles as written)."""
    done: list[str] = []
    waiting = list(space)
    while waiting:
        ready = [key for key in waiting if all(o in done for o in space[key].when or {})]
        done += ready or waiting
        waiting = [key for key in waiting if key not in done]
    return done


def applies(
    entry: Choices | Interval, chosen: Mapping[str, Any], defaults: Mapping[str, Any]
) -> bool:
    """Whether the ``when`` of ``entry`` holds for what is chosen, or else FILE's values."""
    for other, allowed in (entry.when or {}).items():
        value = chosen.get(other, defaults.get(other))
        if value not in (allowed if isinstance(allowed, list) else [allowed]):
            return False
    return True
