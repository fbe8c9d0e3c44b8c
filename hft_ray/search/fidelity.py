"""Where trials that were stopped early would have ended, as far as others tell.

Optuna's samplers learn from finished trials. To tell a stopped one as complete would mix values of
different steps; to leave it out, as Optuna does with several objectives, loses most of what a sweep
has seen. So the study keeps it as pruned, and the sampler alone sees an estimate: its values on its
last rung, plus the median gain that others made from there to the next rung, and so on to the end.
Of two trials that were stopped on one rung, the one that dominated there dominates in the estimate;
beside a trial that went on, a stopped one stands as it stood on the rung, up to how far that one's
gain was from the median.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

Values = Sequence[float]
"""A value of each objective."""


class Extrapolation:
    """Learns the gains between rungs from every trial and applies them to the stopped ones."""

    def __init__(self) -> None:
        self._seen: dict[int, dict[int, Values]] = defaultdict(dict)
        self._gains: dict[tuple[int, int], list[Values]] = defaultdict(list)
        self._finals: dict[int, list[Values]] = defaultdict(list)
        self._stopped: dict[int, dict[int, Values]] = defaultdict(dict)

    def saw(self, trial: int, rung: int, values: Values) -> None:
        """Take a trial's values on a rung; each trial's rungs in ascending order."""
        curve = self._seen[trial]
        if curve:
            last = max(curve)
            self._gains[last, rung].append(np.subtract(values, curve[last]).tolist())
        curve[rung] = values

    def completed(self, trial: int, values: Values) -> None:
        """Take a trial's values at its end."""
        if curve := self._seen.get(trial):
            last = max(curve)
            self._finals[last].append(np.subtract(values, curve[last]).tolist())

    def stopped(self, trial: int) -> None:
        """Take note that a trial was stopped; one that came to no rung cannot be estimated."""
        if curve := self._seen.get(trial):
            last = max(curve)
            self._stopped[last][trial] = curve[last]

    def estimates(self) -> Mapping[int, Values]:
        """Return trial -> estimated values at its end, for the stopped ones."""
        rungs = sorted({rung for curve in self._seen.values() for rung in curve})
        # From the last rung down: the gain from each to the end.
        total: dict[int, np.ndarray[tuple[int, ...], np.dtype[np.float64]]] = {}
        for place in reversed(range(len(rungs))):
            rung = rungs[place]
            after = rungs[place + 1] if place + 1 < len(rungs) else rung
            if self._gains.get((rung, after)):
                total[rung] = np.median(self._gains[rung, after], axis=0) + total[after]
            elif self._finals.get(rung):
                total[rung] = np.median(self._finals[rung], axis=0)
            else:
                total[rung] = np.zeros(1)
        found: dict[int, Values] = {}
        for rung, trials in self._stopped.items():
            ends = np.array([*trials.values()]) + total[rung]
            found |= zip(trials, ends.tolist(), strict=True)
        return found
