"""Where trials that were stopped early would have ended, as far as others tell.

Optuna's samplers learn from finished trials. To tell a stopped one as complete would mix values of
different steps; to leave it out, as Optuna does with several objectives, loses most of what a sweep
has seen. So the study keeps it as pruned, and the sampler alone sees an estimate: its values on its
last rung, moved and stretched as the values of others moved and spread from there to the next rung,
and so on to the end (their medians onto each other, and their interquartile ranges). Of two trials
that were stopped on one rung, the one that dominated there dominates in the estimate.
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
"""Trials without which nothing is known of the spread."""


class Extrapolation:
    """Learns from every trial how values change between rungs; applies it to the stopped ones."""

    def __init__(self) -> None:
        self._seen: dict[int, dict[int, Values]] = defaultdict(dict)
        self._changes: dict[tuple[int, int], list[tuple[Values, Values]]] = defaultdict(list)
        self._ends: dict[int, list[tuple[Values, Values]]] = defaultdict(list)
        self._stopped: dict[int, dict[int, Values]] = defaultdict(dict)

    def saw(self, trial: int, rung: int, values: Values) -> None:
        """Take a trial's values on a rung; each trial's rungs in ascending order."""
        curve = self._seen[trial]
        if curve:
            last = max(curve)
            self._changes[last, rung].append((curve[last], values))
        curve[rung] = values

    def completed(self, trial: int, values: Values) -> None:
        """Take a trial's values at its end."""
        if curve := self._seen.get(trial):
            last = max(curve)
            self._ends[last].append((curve[last], values))

    def stopped(self, trial: int) -> None:
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
    stretch = np.ones(before.shape[1])
    if len(pairs) >= LEAST:
        spreads = [np.subtract(*np.quantile(x, [0.75, 0.25], axis=0)) for x in (before, after)]
        known = (spreads[0] > 0) & (spreads[1] > 0)
        stretch[known] = spreads[1][known] / spreads[0][known]
    return lambda values: middles[1] + stretch * (values - middles[0])
