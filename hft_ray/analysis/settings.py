"""Searched settings as numbers."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Setting:
    """One searched setting.

    Attributes:
        key: Its dotted key.
        low: Smallest value of an interval, None for a list of values; ``high`` the largest.
        log: Whether the interval is searched on a logarithmic scale.
        choices: Texts of the values of a list, empty for an interval.
    """

    key: str
    low: float | None = None
    high: float | None = None
    log: bool = False
    choices: tuple[str, ...] = ()

    @property
    def categorical(self) -> bool:
        """Whether its values have no order."""
        return bool(self.choices)

    @property
    def is_seed(self) -> bool:
        """Whether it only repeats: its values mean nothing by themselves."""
        return self.key.rsplit(".", 1)[-1] == "seed"

    def encode(self, value: Any) -> float:
        """Return the place of a value: 0 to 1 within the interval, or the number of the choice.

        A value beyond the interval lies beyond 0 to 1. What cannot be placed is nan.
        """
        if self.categorical:
            label = text(value)
            return float(self.choices.index(label)) if label in self.choices else math.nan
        if isinstance(value, bool) or not isinstance(value, int | float):
            return math.nan
        if self.log and value <= 0:
            return math.nan
        low, high = self._scaled(self.low), self._scaled(self.high)
        return (self._scaled(value) - low) / (high - low)

    def decode(self, place: float) -> float:
        """Return the value of an interval at a place."""
        low, high = self._scaled(self.low), self._scaled(self.high)
        value = low + place * (high - low)
        return 10**value if self.log else value

    def _scaled(self, value: float | None) -> float:
        assert value is not None
        return math.log10(value) if self.log else float(value)


def text(value: Any) -> str:
    """Return a value of a list as its label."""
    return value if isinstance(value, str) else json.dumps(value, default=str)


def encoded(settings: Sequence[Setting], params: Sequence[dict[str, Any]]) -> Array:
    """Return the configurations (n, d); nan where a setting cannot be placed."""
    rows = [[setting.encode(each.get(setting.key)) for setting in settings] for each in params]
    return np.array(rows, dtype=np.float64).reshape(len(rows), len(settings))
