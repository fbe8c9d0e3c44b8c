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

from hft_ray.search.rung import Floats, tie_break_hash

LEAST, MOST = 8, 64
"""Trials without which nothing is known, and with which enough is: some 2,000 pairs."""
SURE = 0.95
"""Share of the pairs that must keep their order."""
NOBODY = -(1 << 30)
"""Far below any gap: nobody is ahead of itself."""


class RankStability:
    """The trials that came from one rung to the next.

    Of more than MOST trials those with the lowest lots count: the same ones whatever the order in
    which they came.

    Args:
        seed: Of the lots.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._pairs: list[tuple[int, tuple[float, ...], tuple[float, ...]]] = []
        self._known: tuple[Floats, NDArray[np.int32]] | None = None

    def add(self, trial: str, before: Floats, after: Floats) -> None:
        """Take a trial's (m,) costs on the two rungs."""
        insort(
            self._pairs,
            (tie_break_hash(self._seed, trial), tuple(before.tolist()), tuple(after.tolist())),
        )
        del self._pairs[MOST:]
        self._known = None

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
        if self._known is None:
            before, after = (np.array([pair[side] for pair in self._pairs]).T for side in (1, 2))
            kept = (after[:, :, None] <= after[:, None, :]).astype(np.int32)
            kept[:, range(len(self._pairs)), range(len(self._pairs))] = NOBODY
            self._known = before, kept
        margins = []
        for values, own, kept in zip(order, *self._known, strict=True):
            ranks = np.searchsorted(values, own).astype(np.int32)
            # How far the one is ahead of the other, and whether it stayed so, in one number.
            margins.append(_margin((2 * (ranks[None, :] - ranks[:, None]) + kept).ravel()))
        return margins


def _margin(pairs: NDArray[np.int32]) -> float:
    """Return the least gap of which, with all wider ones, a share of SURE kept its order.

    Args:
        pairs: 2 gap + 1 if the order was kept, for both ways to take each pair; the way in which
            the gap is negative does not count, so that equals count both ways.
    """
    pairs = np.sort(pairs)
    # From the widest gap down.
    pairs = pairs[np.searchsorted(pairs, 0) :][::-1]
    gaps = pairs >> 1
    share = (pairs & 1).cumsum() / np.arange(1, len(pairs) + 1)
    # Pairs that are as far apart count together.
    last = np.flatnonzero(np.append(gaps[1:] != gaps[:-1], True))
    sure = last[share[last] >= SURE]
    if not len(sure):
        return math.inf
    # Whatever is wider than the next gap, which is not sure any more.
    return float(gaps[sure[-1] + 1] + 1) if sure[-1] + 1 < len(gaps) else 0.0
