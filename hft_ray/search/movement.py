"""How far ranks still move from one rung to the next: what a comparison on a rung is worth.

Where learning curves cross or scores are noisy, a trial that is a little behind on an early rung is
often ahead at the end. Only ranks are looked at, so an objective's scale does not matter.
"""

from __future__ import annotations

from bisect import insort

import numpy as np

from hft_ray.search.rung import Floats, lot

LEAST, MOST = 8, 512
"""Trials without which nothing is known, and with which enough is."""


class Movement:
    """The trials that came from one rung to the next.

    Of more than MOST trials those with the lowest lots count: the same ones whatever the order in
    which they came.

    Args:
        seed: Of the lots.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._pairs: list[tuple[int, tuple[float, ...], tuple[float, ...]]] = []
        self._typical: Floats | None = None

    def add(self, trial: str, before: Floats, after: Floats) -> None:
        """Take a trial's (m,) costs on the two rungs."""
        insort(self._pairs, (lot(self._seed, trial), tuple(before.tolist()), tuple(after.tolist())))
        del self._pairs[MOST:]
        self._typical = None

    def typical(self) -> Floats | float:
        """Return the median move in each objective, (m,), as a share of trials; 0 if unknown."""
        if len(self._pairs) < LEAST:
            return 0.0
        if self._typical is None:
            before, after = (np.array([pair[side] for pair in self._pairs]) for side in (1, 2))
            moves = np.abs(_ranks(before) - _ranks(after))
            self._typical = np.asarray(np.median(moves, axis=0) / len(self._pairs))
        return self._typical


def _ranks(costs: Floats) -> Floats:
    """Return for (n, m) costs how many are lower in each objective; equal ones share their mean."""
    columns = []
    for column in costs.T:
        order = np.sort(column)
        left, right = (np.searchsorted(order, column, side) for side in ("left", "right"))
        columns.append((left + right - 1) / 2)
    return np.stack(columns, axis=1)
