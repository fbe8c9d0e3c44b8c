"""A search space with conditional settings as points, and as what a model sees of them.

A point is a row with one coordinate for each setting, NaN where the setting does not exist.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution

from hft_ray.search.bayes.scales import Array, Kinds, Levels, scale_of

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Condition:
    """What another setting must be.

    Attributes:
        parent: Name of the other setting, which comes earlier in the space.
        allowed: Whether it may have a value, as Optuna stores it.
        without: Whether the condition holds where the other setting does not exist itself.
    """

    parent: str
    allowed: Callable[[Any], bool]
    without: bool = False


@dataclass(frozen=True)
class Searched:
    """A setting that is searched.

    Attributes:
        name: Optuna's name.
        distribution: What it may be.
        conditions: When it exists: all of them hold.
    """

    name: str
    distribution: BaseDistribution
    conditions: tuple[Condition, ...] = ()


class Encoding:
    """Points of a space.

    Args:
        settings: The settings, each after those that its conditions name.
    """

    def __init__(self, settings: Sequence[Searched]) -> None:
        self.settings = list(settings)
        self.scales = [scale_of(each.distribution) for each in settings]
        self._column = {each.name: place for place, each in enumerate(settings)}
        widths = [each.width for each in self.scales]
        ends = np.cumsum([0, *widths])
        self.features_of = [slice(a, b) for a, b in pairwise(ends)]
        self.width = int(ends[-1])

    @property
    def distributions(self) -> dict[str, BaseDistribution]:
        """Name -> what it may be."""
        return {each.name: each.distribution for each in self.settings}

    @property
    def size(self) -> float:
        """How many points there are at most; infinite with a real number among the settings."""
        return math.prod(each.levels for each in self.scales)

    def point(self, params: Mapping[str, Any]) -> Array | None:
        """Return a trial's point; None if a setting is missing or has a value from elsewhere."""
        row = np.full(len(self.settings), np.nan)
        for place, (setting, scale) in enumerate(zip(self.settings, self.scales, strict=True)):
            if setting.name in params:
                try:
                    row[place] = scale.place(params[setting.name])
                except (ValueError, StopIteration, TypeError):
                    return None
        row = np.where(self.exists(row[None])[0], row, np.nan)
        missing = self.exists(row[None])[0] & np.isnan(row)
        return None if missing.any() or np.any(row < -1e-9) else row

    def params(self, point: Array) -> dict[str, Any]:
        """Return name -> value of the settings that exist at a point."""
        triples = zip(self.settings, self.scales, point, strict=True)
        return {each.name: scale.value(x) for each, scale, x in triples if not np.isnan(x)}

    def exists(self, points: Array) -> Mask:
        """Return which settings exist at points, by what the other settings are."""
        found = np.ones(points.shape, dtype=bool)
        for place, setting in enumerate(self.settings):
            for condition in setting.conditions:
                parent = self._column[condition.parent]
                holds = self._allowed(condition, points[:, parent])
                found[:, place] &= np.where(found[:, parent], holds, condition.without)
        return found

    def _allowed(self, condition: Condition, places: Array) -> Mask:
        scale = self.scales[self._column[condition.parent]]
        found = np.zeros(len(places), dtype=bool)
        for place in np.unique(places[~np.isnan(places)]):
            found[places == place] = condition.allowed(scale.value(place))
        return found

    def settle(self, points: Array, uniform: Array) -> Array:
        """Return points whose settings have values, and exist when and only when they should.

        Args:
            points: Points.
            uniform: Numbers between 0 and 1 of the same shape: they decide what a setting is that
                had no value before.
        """
        settled = points.copy()
        for place, scale in enumerate(self.scales):
            fresh = np.isnan(settled[:, place])
            settled[fresh, place] = scale.draw(uniform[fresh, place])
            settled[:, place] = scale.snap(settled[:, place])
        settled[~self.exists(settled)] = np.nan
        return settled

    def draw(self, uniform: Array) -> Array:
        """Return points for numbers that are uniform between 0 and 1."""
        return self.settle(np.full(uniform.shape, np.nan), uniform)

    def every(self) -> Array:
        """Return every point of a space of levels and names."""
        ranges = [np.arange(int(scale.levels)) for scale in self.scales]
        numbers = np.array(list(product(*ranges)), dtype=float)
        points = self.draw((numbers + 0.5) / [scale.levels for scale in self.scales])
        return np.array(list({key(each): each for each in points}.values()))

    def features(self, points: Array) -> Array:
        """Return what a model sees of points, shape ``(n, width)``, between 0 and 1."""
        columns = [scale.features(points[:, n]) for n, scale in enumerate(self.scales)]
        return np.hstack(columns) if columns else np.empty((len(points), 0))

    def relaxed(self, points: Array) -> Mask:
        """Return which features may move without a step, shape ``(n, width)``."""
        free = np.zeros((len(points), self.width), dtype=bool)
        for place, scale in enumerate(self.scales):
            if scale.relaxed:
                free[:, self.features_of[place]] = ~np.isnan(points[:, place, None])
        return free

    def moved(self, points: Array, features: Array) -> Array:
        """Return points with the relaxed settings where ``features`` has them."""
        found = points.copy()
        for place, scale in enumerate(self.scales):
            if scale.relaxed:
                there = ~np.isnan(points[:, place])
                found[there, place] = features[there, self.features_of[place].start]
        return found

    def neighbours(self, point: Array) -> Iterator[Array]:
        """Yield the points that differ in one setting: another name, or a level further."""
        for place, scale in enumerate(self.scales):
            if np.isnan(point[place]):
                continue
            if isinstance(scale, Kinds):
                others = [float(n) for n in range(int(scale.levels)) if n != point[place]]
            elif isinstance(scale, Levels):
                at = point[place : place + 1]
                others = [float(scale.shifted(at, by)[0]) for by in (-1, 1)]
            else:
                continue
            for other in others:
                changed = point.copy()
                changed[place] = other
                yield changed


def key(point: Array) -> bytes:
    """Return what two points have in common when they are equal in all of their settings."""
    rounded = np.round(np.nan_to_num(point, nan=-1.0), 9) + 0.0
    return bytes(rounded.tobytes())
