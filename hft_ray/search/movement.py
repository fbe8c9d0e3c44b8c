"""What a comparison on a rung is worth: how far ahead one must be there to be so on the next one.

Where learning curves cross or scores are noisy, who is a little behind on an early rung is often
ahead later; and an objective that hardly differs there yet (nobody has learned the task) says
nothing at all. Only ranks are looked at, so an objective's scale does not matter.
"""

from __future__ import annotations

import math
from bisect import insort
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hft_ray.search.rung import Floats, lot

LEAST, MOST = 8, 64
"""Trials without which nothing is known, and with which enough is: some 2,000 pairs."""
SURE = 0.95
"""Share of the pairs that must keep their order."""


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

    def add(self, trial: str, before: Floats, after: Floats) -> None:
        """Take a trial's (m,) costs on the two rungs."""
        insort(self._pairs, (lot(self._seed, trial), tuple(before.tolist()), tuple(after.tolist())))
        del self._pairs[MOST:]

    def margins(self, order: Sequence[Floats]) -> list[float]:
        """Return how many ranks one must be ahead on the rung, in each objective, to stay so.

        Args:
            order: For each objective the costs of all trials on the rung, ascending.

        Returns:
            For each objective the least gap in ranks such that of all pairs that were as far apart
            or further, a share of SURE kept its order or became equal; infinite if there is none; 0
            as long as fewer than LEAST trials are known.
        """
        if len(self._pairs) < LEAST:
            return [0.0] * len(order)
        before, after = (np.array([pair[side] for pair in self._pairs]) for side in (1, 2))
        # Each pair counts once for who was ahead; equals count both ways, none with itself.
        others = ~np.eye(len(before), dtype=np.bool_)
        margins = []
        for values, own, later in zip(order, before.T, after.T, strict=True):
            ranks = np.searchsorted(values, own)
            gaps = ranks[None, :] - ranks[:, None]
            ahead = others & (gaps >= 0)
            margins.append(_margin(gaps[ahead], (later[:, None] <= later[None, :])[ahead]))
        return margins


def _margin(gaps: NDArray[np.int64], kept: NDArray[np.bool_]) -> float:
    """Return the least gap of which, with all wider ones, a share of SURE is kept."""
    # From the widest gap down; in one number each, which numpy sorts in a fraction of the time.
    coded = np.sort(2 * gaps + kept)[::-1]
    gaps = coded >> 1
    share = (coded & 1).cumsum() / np.arange(1, len(coded) + 1)
    # Pairs that are as far apart count together.
    last = np.flatnonzero(np.append(gaps[1:] != gaps[:-1], True))
    sure = last[share[last] >= SURE]
    if not len(sure):
        return math.inf
    # Whatever is wider than the next gap, which is not sure any more.
    return float(gaps[sure[-1] + 1] + 1) if sure[-1] + 1 < len(gaps) else 0.0
