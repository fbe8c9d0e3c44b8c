"""Strategies: in which order candidates are drawn.

A strategy is made for one draw and gives each candidate a key; candidates with the smallest keys
are drawn first. It knows nothing of budgets, and a granularity nothing of how keys come about.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256

from hft_ray.selection.catalog import Unit


@dataclass(frozen=True)
class Candidate:
    """What a granularity draws as one: a unit, a layer, or the units of a category in a layer.

    Attributes:
        name: Unique among the candidates of a draw.
        units: The units it stands for.
    """

    name: str
    units: tuple[Unit, ...]

    @property
    def size(self) -> int:
        """Number of parameters."""
        return sum(unit.size for unit in self.units)


Key = tuple[float, str]
"""Score, then a hash to break ties; smaller is drawn first."""

Ranking = Callable[[Candidate], Key]
Strategy = Callable[[int, int], Ranking]
"""(seed, round) -> the ranking of that round."""


def random(seed: int, round: int) -> Ranking:
    """Rank uniformly at random (HFT, arXiv 2404.18466).

    The order is that of SHA-256 hashes, not of a random number generator, so that it is the same
    on every rank, platform and library version.
    """

    def rank(candidate: Candidate) -> Key:
        return 0.0, sha256(f"{seed}:{round}:{candidate.name}".encode()).hexdigest()

    return rank


STRATEGIES: dict[str, Strategy] = {"random": random}
