"""Extrapolation of stopped trials: estimates of their final values, from trials that went on.

Optuna's samplers learn from complete trials. A stopped trial that counts as complete would mix
values of different steps; without it, as in Optuna with several objectives, most of what a sweep
has measured is lost. So the study keeps it as pruned, and the sampler alone sees an estimate: its
values on its last rung, taken to the next rung by the line that fits the trials that went on, and
so on to the end (least squares about the medians). Where a rung is noise the line is flat, and a
lucky value there does not become a good end. No line falls: of two trials that were stopped on one
rung, the one that dominated there is nowhere worse in the estimate.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

Values = Sequence[float]
"""A value of each objective."""
Array = NDArray[np.float64]
LEAST = 4
"""Fewest trials for a slope."""


class Extrapolation:
    """Estimates the final values of stopped trials from how values change between rungs."""

    def __init__(self) -> None:
        self._seen: dict[int, dict[int, Values]] = defaultdict(dict)
        self._changes: dict[tuple[int, int], list[tuple[Values, Values]]] = defaultdict(list)
        self._ends: dict[int, list[tuple[Values, Values]]] = defaultdict(list)
        self._stopped: dict[int, dict[int, Values]] = defaultdict(dict)

    def add_rung(self, trial: int, rung: int, values: Values) -> None:
        """Add a trial's values on a rung; the rungs of a trial in ascending order."""
        curve = self._seen[trial]
        if curve:
            last = max(curve)
            self._changes[last, rung].append((curve[last], values))
        curve[rung] = values

    def add_end(self, trial: int, values: Values) -> None:
        """Add a trial's values at its end."""
        if curve := self._seen.get(trial):
            last = max(curve)
            self._ends[last].append((curve[last], values))

    def add_stopped(self, trial: int) -> None:
        """Add a stopped trial; one that reached no rung has no estimate."""
        if curve := self._seen.get(trial):
            last = max(curve)
            self._stopped[last][trial] = curve[last]

    def estimates(self) -> Mapping[int, Values]:
        """Return trial -> estimated values at its end, for the stopped ones."""
        rungs = sorted({rung for curve in self._seen.values() for rung in curve})
        found: dict[int, Values] = {}
        # From the last rung down, each rung's estimates being made of the next one's.
        onward: list[Callable[[Array], Array]] = []
        for place in reversed(range(len(rungs))):
            rung = rungs[place]
            after = rungs[place + 1] if place + 1 < len(rungs) else rung
            if changes := self._changes.get((rung, after)):
                onward.append(_change(changes))
            elif ends := self._ends.get(rung):
                # No trial went further than to its end.
                onward = [_change(ends)]
            else:
                onward = []
            if trials := self._stopped.get(rung):
                values = np.array([*trials.values()], dtype=np.float64)
                for change in reversed(onward):
                    values = change(values)
                found |= zip(trials, values.tolist(), strict=True)
        return found


def _change(pairs: Sequence[tuple[Values, Values]]) -> Callable[[Array], Array]:
    """Return the line of each objective from values on one rung to those on the next."""
    before, after = (np.array([pair[side] for pair in pairs]) for side in (0, 1))
    middles = np.median(before, axis=0), np.median(after, axis=0)
    slope = np.ones(before.shape[1])
    if len(pairs) >= LEAST:
        left, right = before - middles[0], after - middles[1]
        with np.errstate(over="ignore", invalid="ignore"):
            square, product = (left**2).sum(axis=0), (left * right).sum(axis=0)
        known = (square > 0) & np.isfinite(square) & np.isfinite(product)
        slope[known] = np.maximum(product[known] / square[known], 0.0)
    return lambda values: middles[1] + slope * (values - middles[0])
