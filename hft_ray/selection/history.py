"""The history that a draw may depend on: earlier rounds and measurements."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from hft_ray.selection.catalog import Unit


@dataclass(frozen=True)
class History:
    """The past of one run at the start of a round; the same on every rank.

    Attributes:
        times_drawn: Unit name -> number of rounds so far in which it was trainable; a unit that is
            not there was never drawn.
        measures: Unit name -> the measure that the strategy needs before the draw (see
            :func:`hft_ray.selection.needs`), finite and at least 0. Either empty, when nothing
            is measured yet, or with every unit of the pool.
    """

    times_drawn: Mapping[str, int] = field(default_factory=dict)
    measures: Mapping[str, float] = field(default_factory=dict)

    def after(self, units: Iterable[Unit]) -> History:
        """Return the history after a round that trained ``units``, with nothing measured yet."""
        return History(Counter(self.times_drawn) + Counter(unit.name for unit in units))
