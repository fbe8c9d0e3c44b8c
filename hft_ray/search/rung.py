"""One rung: the trials that reached it, sorted into fronts as they arrive.

Non-dominated sorting (Deb et al., "A fast and elitist multiobjective genetic algorithm: NSGA-II",
2002) puts the non-dominated trials on front 0, those that only trials of front 0 dominate on front
1, and so on. Within a front the more isolated trial comes first (crowding distance, ibid.),
measured in ranks: the number of the rung's trials between its neighbours. Only comparisons of
values count, so neither the order nor the scale of the objectives matters.

Symbols: n trials on the rung, m objectives, costs (m, n) minimised.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from hft_ray.pareto.dominance import dominates, front_ranks

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
FIRST_CAPACITY = 64
LARGEST = 1 << 31
"""Group numbers above this are renumbered, long before they overflow."""


@dataclass(frozen=True)
class Standing:
    """The rank of a trial on a rung when it reaches it.

    Attributes:
        rank: Its place, 1 for the best of ``size``.
        size: Trials on the rung, this one included.
        front: Number of its front, 0 for the non-dominated.
        front_size: Trials on that front, this one included.
        epsilon_dominated: Whether another one on its front is worse by at most epsilon in every
            objective.
    """

    rank: int
    size: int
    front: int
    front_size: int
    epsilon_dominated: bool


class Rung:
    """The costs of the trials on one rung.

    Args:
        objectives: Number of objectives, m >= 1.
        epsilon: Share of the rung's trials by which one may be behind another in an objective and
            still count as equally good in it.
        seed: Seed of the hash that breaks ties.
    """

    def __init__(self, objectives: int, epsilon: float, seed: int) -> None:
        self._epsilon, self._seed = epsilon, seed
        self._size = 0
        self._costs: Floats = np.empty((objectives, FIRST_CAPACITY))
        self._fronts: Integers = np.empty(FIRST_CAPACITY, dtype=np.int64)
        self._lots: NDArray[np.uint64] = np.empty(FIRST_CAPACITY, dtype=np.uint64)
        # Every objective's values in order: a value's place in it is its rank.
        self._order: list[Floats] = [np.empty(0) for _ in range(objectives)]

    def __len__(self) -> int:
        return self._size

    @property
    def order(self) -> list[Floats]:
        """The costs of each objective, ascending, (n,) each."""
        return self._order

    @property
    def fronts(self) -> Integers:
        """The front of each trial, (n,), in the order in which they came."""
        return self._fronts[: self._size]

    def add(self, trial: str, costs: Floats) -> Standing:
        """Add a trial with its finite (m,) costs and return its standing."""
        below = self._dominating(costs)
        front = int(self.fronts[below].max()) + 1 if below.any() else 0
        self._append(trial, costs, front)
        self._push_back(self._size - 1)
        return self._standing(front)

    def newest_is_behind(self, margins: Sequence[float]) -> bool:
        """Return whether another trial is clearly ahead of the one that was added last.

        Args:
            margins: How many ranks it must be ahead in each objective, (m,); equal ones are 0
                ahead, and in one objective at least the other must be better.
        """
        better: NDArray[np.bool_] = np.zeros(self._size, dtype=bool)
        ahead: NDArray[np.bool_] = np.ones(self._size, dtype=bool)
        for costs, values, margin in zip(self._costs, self._order, margins, strict=True):
            known, own = costs[: self._size], costs[self._size - 1]
            place = np.searchsorted(values, own) - margin
            if place < 0:
                return False
            better |= known < own
            ahead &= known <= values[int(place)]
        return bool((better & ahead).any())

    def load(self, trials: list[str], costs: Floats) -> None:
        """Add many trials at once, (n, m) costs; equal to adding one after the other."""
        assert self._size == 0
        if trials:
            fronts = front_ranks(costs)
            for trial, row, front in zip(trials, costs, fronts, strict=True):
                self._append(trial, row, int(front))

    def _append(self, trial: str, costs: Floats, front: int) -> None:
        if self._size == len(self._fronts):
            self._costs = np.concatenate([self._costs, np.empty_like(self._costs)], axis=1)
            self._fronts = np.concatenate([self._fronts, np.empty_like(self._fronts)])
            self._lots = np.concatenate([self._lots, np.empty_like(self._lots)])
        place = self._size
        self._costs[:, place] = costs
        self._fronts[place] = front
        self._lots[place] = tie_break_hash(self._seed, trial)
        for number, values in enumerate(self._order):
            at = int(np.searchsorted(values, costs[number]))
            parts = values[:at], costs[number : number + 1], values[at:]
            self._order[number] = np.concatenate(parts)
        self._size += 1

    def _dominating(self, costs: Floats) -> NDArray[np.bool_]:
        """Return which trials dominate ``costs``."""
        return dominates(self._costs[:, : self._size], costs[:, None])

    def _dominated(self, costs: Floats) -> NDArray[np.bool_]:
        """Return which trials ``costs`` dominate."""
        return dominates(costs[:, None], self._costs[:, : self._size])

    def _push_back(self, newcomer: int) -> None:
        """Move trials that the newcomer dominates from its front to the next one, and so on."""
        # A trial that is moved, by any other, is dominated by the newcomer too.
        behind = np.flatnonzero(self._dominated(self._costs[:, newcomer]))
        fronts = self._fronts[behind]
        pushing, front = np.array([newcomer]), int(self._fronts[newcomer])
        while len(pushing):
            members = behind[fronts == front]
            if not len(members):
                break
            pushed = _dominate(self._costs[:, pushing], self._costs[:, members])
            pushing, front = members[pushed], front + 1
            self._fronts[pushing] = front

    def _standing(self, front: int) -> Standing:
        """Return the standing of the trial that was added last."""
        on_front = np.flatnonzero(self.fronts == front)
        ranks, places = self._ranks(on_front)
        spread = _spread(ranks, places, self._size)
        lots = self._lots[on_front]
        ahead = (spread > spread[-1]) | ((spread == spread[-1]) & (lots < lots[-1]))
        slack = self._epsilon * self._size
        covering = np.ones(len(on_front) - 1, dtype=bool)
        for values, own in zip(ranks, places, strict=True):
            covering &= (values <= values[own[-1]] + slack)[own[:-1]]
        return Standing(
            rank=1 + int((self.fronts < front).sum()) + int(ahead.sum()),
            size=self._size,
            front=front,
            front_size=len(on_front),
            epsilon_dominated=bool(covering.any()),
        )

    def _ranks(self, chosen: Integers) -> tuple[list[Integers], list[Integers]]:
        """Return for each objective the ranks of the chosen trials, and each one's place there.

        A rank is how many of all trials are better in this objective; each once, ascending.
        """
        ranks, places = [], []
        for values, costs in zip(self._order, self._costs, strict=True):
            every = np.searchsorted(values, costs[chosen])
            own = np.sort(every)
            own = own[np.append(True, own[1:] != own[:-1])]
            ranks.append(own)
            places.append(np.searchsorted(own, every))
        return ranks, places


def _dominate(ours: Floats, theirs: Floats) -> NDArray[np.bool_]:
    """Return for (m, a) and (m, b) costs which of theirs any of ours dominates, (b,)."""
    if ours.shape[1] == 1:
        return dominates(ours, theirs)
    dominated: NDArray[np.bool_] = np.any(dominates(ours[:, :, None], theirs[:, None, :]), axis=0)
    return dominated


def _spread(ranks: list[Integers], places: list[Integers], most: int) -> Integers:
    """Return the crowding distance of each of the k members of a front, (k,), in whole numbers.

    Args:
        ranks: For each objective the ranks that the members have, ascending.
        places: For each objective which of them each member has, (k,) each.
        most: More than any two ranks differ by.

    An objective in which all are equal decides nothing. Members with equal values in one objective
    have the same neighbours in it; members that are equal in all have none between them, so 0.
    """
    distance = np.zeros_like(places[0])
    groups = np.zeros_like(places[0])
    for values, own in zip(ranks, places, strict=True):
        if len(values) > 1:
            gaps = np.full(len(values), most * len(ranks))
            gaps[1:-1] = values[2:] - values[:-2]
            distance += gaps[own]
            groups = groups * len(values) + own
            if groups.max() > LARGEST:
                groups = np.unique(groups, return_inverse=True)[1]
    ordered = np.sort(groups)
    twice = ordered[1:][ordered[1:] == ordered[:-1]]
    if len(twice):
        distance[np.isin(groups, twice)] = 0
    return distance


def tie_break_hash(seed: int, trial: str) -> int:
    """Return a hash of a trial, which breaks ties."""
    return int.from_bytes(blake2b(f"{seed} {trial}".encode(), digest_size=8).digest(), "big")
