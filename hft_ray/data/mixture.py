"""Several training sets as one: replayed records beside a task's own, and weighted mixtures.

What is in a mixture is a pure function of the sets, the shares or weights, and a seed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from hft_ray.data.dataset import TrainingSet

Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Mixture:
    """Sequences of several sets.

    Attributes:
        sets: The sets.
        members: Which set each of the n sequences is of, [n].
        indices: Which sequence of that set it is, [n].
    """

    sets: tuple[TrainingSet, ...]
    members: Ints
    indices: Ints

    def __len__(self) -> int:
        return len(self.members)

    def __getitem__(self, index: int) -> dict[str, NDArray[np.int64]]:
        """Return one sequence, as its set does."""
        return self.sets[self.members[index]][int(self.indices[index])]

    @cached_property
    def answer_tokens(self) -> Ints:
        """Trained target positions per sequence, [n]."""
        return self._each("answer_tokens")

    @cached_property
    def lengths(self) -> Ints:
        """Tokens of each sequence, [n]."""
        return self._each("lengths")

    def _each(self, name: str) -> Ints:
        found = np.empty(len(self), dtype=np.int64)
        for number, each in enumerate(self.sets):
            of = self.members == number
            found[of] = getattr(each, name)[self.indices[of]]
        return found

    @cached_property
    def identity(self) -> str:
        """Hash of all that it was made of."""
        digest = hashlib.sha256("\n".join(each.identity for each in self.sets).encode())
        digest.update(self.members.tobytes() + self.indices.tobytes())
        return digest.hexdigest()


def joined(parts: Sequence[tuple[TrainingSet, Ints]]) -> Mixture | TrainingSet:
    """Return the given sequences of each set, one set after another; a single whole set as it is.

    Args:
        parts: The sets, each with which of its sequences to take.
    """
    (first, taken), *more = parts
    return first if not more and len(taken) == len(first) else _mixture(parts)


def _mixture(parts: Sequence[tuple[TrainingSet, Ints]]) -> Mixture:
    members = [np.full(len(taken), number) for number, (_, taken) in enumerate(parts)]
    return Mixture(
        tuple(each for each, _ in parts),
        np.concatenate(members).astype(np.int64),
        np.concatenate([taken for _, taken in parts]).astype(np.int64),
    )


def share_of(n: int, share: float, seed: int, number: int) -> Ints:
    """Return a random share of n sequences: at least one, if the share is above 0.

    Args:
        n: Sequences of the set.
        share: Which share of them, from 0 to 1.
        seed: Seed of the run.
        number: Number of the set, so that sets of one length do not give the same places.
    """
    count = min(n, max(1, round(share * n))) if share > 0 else 0
    return np.sort(_generator(seed, number).permutation(n)[:count])


def weighted(
    sets: Sequence[TrainingSet], weights: Sequence[float], length: int, seed: int
) -> Mixture:
    """Return so many sequences in the order to train on, in which each set has its weight's share.

    A set gives its sequences pass by pass, each in an order of its own, so that none is taken
    twice before all are taken. Shares that are not whole numbers are rounded by largest remainder.
    They hold all the way: of what a set gives in all, the first p sequences have p / length, to
    within one with two sets, and K - 1 with K. Places are otherwise random: a pattern could meet
    the one by which batches are cut into micro-batches and ranks.

    Args:
        sets: The sets.
        weights: Weight of each, above 0.
        length: Sequences of the mixture.
        seed: Seed of the orders.
    """
    exact = np.asarray(weights, dtype=np.float64) / sum(weights) * length
    counts = np.floor(exact).astype(np.int64)
    first = np.argsort(counts - exact, kind="stable")[: length - counts.sum()]
    counts[first] += 1
    parts = [
        (each, _passes(len(each), int(count), seed, number))
        for number, (each, count) in enumerate(zip(sets, counts, strict=True))
    ]
    mixed = _mixture(parts)
    # The j-th of a set's c sequences has a random place in the j-th of c equal parts of the whole.
    within = _generator(seed, len(sets)).random(length)
    nth = np.concatenate([np.arange(count) for count in counts])
    order = np.argsort((nth + within) / counts[mixed.members], kind="stable")
    return Mixture(mixed.sets, mixed.members[order], mixed.indices[order])


def _passes(n: int, count: int, seed: int, number: int) -> Ints:
    generator = _generator(seed, number)
    orders = [generator.permutation(n) for _ in range(-(-count // n))]
    return np.concatenate([np.empty(0, dtype=np.int64), *orders])[:count]


def _generator(seed: int, number: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, number])))
