"""Where trials that were stopped early would have ended, as far as others tell.

Optuna's samplers learn from finished trials. To tell a stopped one as complete would mix values of
different steps; to leave it out, as Optuna does with several objectives, loses most of what a sweep
has seen. So the study keeps it as pruned, and the sampler alone sees an estimate: its values on its
last rung, taken to the next rung by the line that fits those who went on, and so on to the end
(least squares about the medians). Where a rung is noise the line is flat: a lucky value there is
not told as a good end. No line falls: of two trials that were stopped on one rung, the one that
dominated there is nowhere worse in the estimate.
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
"""Trials without which nothing is known of the slope."""


class Extrapolation:
    """Learns from every trial how values change between rungs; applies it to the stopped ones."""

    def __init__(self) -> None:
        self._seen: dict[int, dict[int, Values]] = defaultdict(dict)
        self._changes: dict[tuple[int, int], list[tuple[Values, Values]]] = defaultdict(list)
        self._ends: dict[int, list[tuple[Values, Values]]] = defaultdict(list)
        self._stopped: dict[int, dict[int, Values]] = defaultdict(dict)

    def add_rung(self, trial: int, rung: int, values: Values) -> None:
        """Take a trial's values on a rung; each trial's rungs in ascending order."""
        curve = self._seen[trial]
        if curve:
            last = max(curve)
            self._changes[last, rung].append((curve[last], values))
        curve[rung] = values

    def add_end(self, trial: int, values: Values) -> None:
        """Take a trial's values at its end."""
        if curve := self._seen.get(trial):
            last = max(curve)
            self._ends[last].append((curve[last], values))

    def add_stopped(self, trial: int) -> None:
        """Take note that a trial was stopped; one that came to no rung cannot be estimated."""
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
                # Nobody went further than to its end.
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
    """Return the line, for each objective, that takes where trials were to where they came."""
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
