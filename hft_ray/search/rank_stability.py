"""The stability of ranks between rungs: the lead that a trial keeps up to the next rung.

Where learning curves cross or scores are noisy, a trial that is a little behind on an early rung is
often ahead later; and an objective that hardly differs there yet (no trial has learned the task)
says nothing. Only ranks are compared, so the scale of an objective does not matter.
"""

from __future__ import annotations

import math
from bisect import insort
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hft_ray.search.rung import Floats, tie_break_hash

LEAST, MOST = 8, 64
"""Fewest trials for an estimate, and most that are used: some 2,000 pairs."""
STABLE = 0.95
"""Share of the pairs that must keep their order."""
SELF = -(1 << 30)
"""Far below any gap: a trial is not compared with itself."""


class RankStability:
    """The trials that went from one rung to the next.

    Of more than MOST trials those with the lowest hashes count, which do not depend on the order
    of the trials.

    Args:
        seed: Seed of the hashes.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._pairs: list[tuple[int, tuple[float, ...], tuple[float, ...]]] = []
        self._known: tuple[Floats, NDArray[np.int32]] | None = None

    def add(self, trial: str, before: Floats, after: Floats) -> None:
        """Add a trial's (m,) costs on the two rungs."""
        insort(
            self._pairs,
            (tie_break_hash(self._seed, trial), tuple(before.tolist()), tuple(after.tolist())),
        )
        del self._pairs[MOST:]
        self._known = None

    def margins(self, order: Sequence[Floats]) -> list[float]:
        """Return the lead in ranks, in each objective, that is kept up to the next rung.

        Args:
            order: For each objective the costs of all trials on the rung, ascending.

        Returns:
            For each objective the least gap in ranks such that of all pairs at least as far apart
            a share of STABLE kept its order or became equal; infinite if there is none; 0 as long
            as fewer than LEAST trials are known.
        """
        if len(self._pairs) < LEAST:
            return [0.0] * len(order)
        if self._known is None:
            before, after = (np.array([pair[side] for pair in self._pairs]).T for side in (1, 2))
            kept = (after[:, :, None] <= after[:, None, :]).astype(np.int32)
            kept[:, range(len(self._pairs)), range(len(self._pairs))] = SELF
            self._known = before, kept
        margins = []
        for values, own, kept in zip(order, *self._known, strict=True):
            ranks = np.searchsorted(values, own).astype(np.int32)
            # How far the one is ahead of the other, and whether it stayed so, in one number.
            margins.append(_margin((2 * (ranks[None, :] - ranks[:, None]) + kept).ravel()))
        return margins


def _margin(pairs: NDArray[np.int32]) -> float:
    """Return the least gap of which, with all wider ones, a share of STABLE kept its order.

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
    stable = last[share[last] >= STABLE]
    if not len(stable):
        return math.inf
    # Every gap wider than the next one, which is not stable any more.
    return float(gaps[stable[-1] + 1] + 1) if stable[-1] + 1 < len(gaps) else 0.0
