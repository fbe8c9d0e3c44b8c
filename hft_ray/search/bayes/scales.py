"""One setting as a coordinate, and as what a model sees of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

Array = NDArray[np.float64]
RELAXED = 12
"""From so many levels on, a whole number is searched as a real one and then rounded."""


class Reals:
    """Real numbers between two ends; the coordinate is the share of the interval below a value.

    Args:
        low: The lower end, in the scale.
        high: The upper end.
        log: Whether the scale is that of the logarithm.
    """

    width, levels, relaxed = 1, math.inf, True

    def __init__(self, low: float, high: float, log: bool = False) -> None:
        self._low, self._high, self._log = low, high, log
        self._ends = (math.log(low), math.log(high)) if log else (low, high)

    def place(self, value: Any) -> float:
        """Return the coordinate of a value."""
        low, high = self._ends
        number = math.log(value) if self._log else float(value)
        return (number - low) / (high - low)

    def value(self, place: float) -> Any:
        """Return the value at a coordinate."""
        low, high = self._ends
        number = low + place * (high - low)
        return float(min(max(math.exp(number) if self._log else number, self._low), self._high))

    def snap(self, places: Array) -> Array:
        """Return the nearest coordinates that have a value."""
        return np.clip(places, 0.0, 1.0)

    def draw(self, uniform: Array) -> Array:
        """Return coordinates for numbers that are uniform between 0 and 1."""
        return uniform

    def features(self, places: Array) -> Array:
        """Return what a model sees, shape ``(n, width)``; NaN is a setting that does not exist."""
        return np.nan_to_num(places, nan=0.5)[:, None]


class Levels(Reals):
    """Values in an order; each has an equal share of the interval, or of its logarithm.

    Args:
        values: The values, ascending.
        log: Whether whole numbers are searched on the scale of the logarithm.
    """

    def __init__(self, values: Sequence[Any], log: bool = False) -> None:
        self._values = values  # a range may be long
        last = len(values) - 1
        self._first = values[0] if log else 0
        ends = (self._first - 0.5, self._first + last + 0.5)
        super().__init__(*ends, log)
        self.levels = len(values)
        self.relaxed = self.levels > RELAXED

    def place(self, value: Any) -> float:
        """Return the coordinate of a value."""
        return float(self._place(np.array([self._values.index(value)]))[0])

    def value(self, place: float) -> Any:
        """Return the value at a coordinate."""
        return self._values[int(self._number(np.array([place]))[0])]

    def snap(self, places: Array) -> Array:
        """Return the nearest coordinates that have a value."""
        exists = ~np.isnan(places)
        found = places.copy()
        found[exists] = self._place(self._number(places[exists]))
        return found

    def shifted(self, places: Array, by: int) -> Array:
        """Return the coordinates so many levels further."""
        return self._place(np.clip(self._number(places) + by, 0, int(self.levels) - 1))

    def _place(self, numbers: NDArray[np.int64]) -> Array:
        """Return the coordinate of each level."""
        low, high = self._ends
        scaled = numbers.astype(np.float64) + self._first
        found: Array = ((np.log(scaled) if self._log else scaled) - low) / (high - low)
        return found

    def _number(self, places: Array) -> NDArray[np.int64]:
        """Return the number of the level whose share holds each coordinate."""
        low, high = self._ends
        scaled = low + np.clip(places, 0.0, 1.0) * (high - low)
        numbers = np.floor((np.exp(scaled) if self._log else scaled) - self._first + 0.5)
        return np.clip(numbers, 0, int(self.levels) - 1).astype(np.int64)


class Kinds:
    """Values without an order; the coordinate is the number of the value.

    A model sees one column for each value (one for two values): equal or not.

    Args:
        values: The values.
    """

    relaxed = False

    def __init__(self, values: Sequence[Any]) -> None:
        self._values = list(values)
        self.levels: float = len(self._values)
        self.width = {1: 0, 2: 1}.get(len(self._values), len(self._values))

    def place(self, value: Any) -> float:
        """Return the coordinate of a value."""
        return float(next(n for n, each in enumerate(self._values) if same(each, value)))

    def value(self, place: float) -> Any:
        """Return the value at a coordinate."""
        return self._values[int(place)]

    def snap(self, places: Array) -> Array:
        """Return the coordinates, which have a value each."""
        return places

    def draw(self, uniform: Array) -> Array:
        """Return coordinates for numbers that are uniform between 0 and 1."""
        return np.minimum(np.floor(uniform * self.levels), self.levels - 1)

    def features(self, places: Array) -> Array:
        """Return what a model sees, shape ``(n, width)``; NaN is a setting that does not exist."""
        if self.width == 0:
            return np.empty((len(places), 0))
        numbers = np.arange(1, 2) if self.width == 1 else np.arange(self.width)
        equal = (places[:, None] == numbers).astype(float)
        equal[np.isnan(places)] = 1 / self.levels
        return equal


Scale = Reals | Kinds


def scale_of(distribution: BaseDistribution) -> Scale:
    """Return the scale of a setting; choices that are all numbers have an order."""
    match distribution:
        case FloatDistribution(low=low, high=high, step=None) if low < high:
            return Reals(low, high, distribution.log)
        case FloatDistribution(low=low, high=high, step=step):
            count = 1 if step is None else round((high - low) / step) + 1
            return Levels([low + n * (step or 0.0) for n in range(count)])
        case IntDistribution(low=low, high=high, step=step):
            return Levels(range(low, high + 1, step), distribution.log)
        case CategoricalDistribution(choices=choices):
            numbers = [each for each in choices if type(each) in (int, float)]
            if len(set(numbers)) == len(choices) > 2:
                return Levels(sorted(numbers))
            return Kinds(choices)
    raise TypeError(f"unknown distribution {distribution}")


def same(one: Any, other: Any) -> bool:
    """Whether two choices are the same: 1 and True are equal, and are not; nan is itself."""
    return one is other or (type(one) is type(other) and one == other)
