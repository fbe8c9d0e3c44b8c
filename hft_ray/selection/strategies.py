"""Strategies: in which order the candidates of a draw are taken.

A strategy is made for one draw and gives each candidate a key; candidates with the smallest keys
are drawn first. It knows nothing of budgets, and a granularity nothing of how keys come about.

Every key is a score and a hash, both computed without a random number generator and without
functions whose last bit depends on the platform: the order is the same on every rank, platform and
library version, given the same history.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Context, Decimal
from hashlib import sha256
from math import fsum, inf
from typing import Literal

from hft_ray.config import Selection
from hft_ray.selection.catalog import Unit
from hft_ray.selection.category_weights import weight
from hft_ray.selection.history import History


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


Key = tuple[tuple[float, ...], str]
"""Scores, the first of which decides first, then a hash to break ties; smaller is drawn first."""

Ranking = Callable[[Candidate], Key]

Measure = Literal["nothing", "gradient", "drift", "importance"]

_MEASURED: Mapping[str, Measure] = {
    "gradient": "gradient",
    "source": "importance",
    "least_drifted": "drift",
    "most_drifted": "drift",
}


def needs(selection: Selection) -> Measure:
    """Return what has to be measured of each unit before a draw, for ``History.measures``.

    - gradient: the L2 norm of the gradient over all of the unit's parameters, the root mean square
      over a few sequences;
    - importance: the same at the base over sequences of general data, measured once in a run;
    - drift: the L2 distance of the unit's parameters from the pre-trained ones, divided by the L2
      norm of the pre-trained ones.

    Nothing where the ratio is 1: everything is drawn in any order.
    """
    if selection.ratio == 1:
        return "nothing"
    return _MEASURED.get(selection.strategy, "nothing")


def random(selection: Selection, round: int, history: History) -> Ranking:
    """Rank uniformly at random (HFT, arXiv 2404.18466), by SHA-256."""
    return _scored(selection, round, lambda candidate: 0.0)


def cyclic(selection: Selection, round: int, history: History) -> Ranking:
    """Rank the least drawn first, so that all have their turn before any returns.

    At model and layer granularity, for both budgets, the numbers of times that any two candidates
    were drawn never differ by more than 1; with k of n drawn per round, every one was drawn after
    ceil(n / k) rounds, which is ceil(1 / r) where r n is a whole number.

    At category granularity, which fixes how many a layer and category gives, this holds

    - among the units of one category in one layer, for both budgets;
    - among all units of a category with equally many in each layer, in matrices;
    - at r = 1/2, in matrices: two rounds cover everything, and where the number of units is even
      the second is exactly the complement of the first.

    A category with r n below 1 units gives one only where the others leave it a place.
    """

    def average(candidate: Candidate) -> float:
        drawn = sum(history.times_drawn.get(unit.name, 0) for unit in candidate.units)
        return drawn / len(candidate.units)

    return _scored(selection, round, average)


def gradient(selection: Selection, round: int, history: History) -> Ranking:
    """Rank the largest root mean square gradient first: L2 norm per square root of size.

    Squared L2 norms add up over the units of a candidate, and over the shards of a rank. Divided by
    size, since Adam moves every parameter by about the learning rate: what a step lowers the loss
    by, per parameter of the budget, is the mean size of the gradient's entries, and a large matrix
    is not preferred for being large.
    """
    return _scored(selection, round, lambda candidate: -_mean_square(candidate, history))


def source(selection: Selection, round: int, history: History) -> Ranking:
    """Rank what matters least for general data first, so that what matters most stays frozen.

    The idea of SSU (arXiv 2512.04844), which freezes columns, for whole candidates: by the mean
    squared gradient of the base there. As Adam moves every parameter by about the learning rate, it
    tells what harm a parameter of the budget does (to second order, with the Fisher information in
    place of the Hessian). The choice is the same in every round.
    """
    return _scored(selection, round, lambda candidate: _mean_square(candidate, history))


def _mean_square(candidate: Candidate, history: History) -> float:
    """Return the mean square of the gradient's entries, from the units' L2 norms."""
    squares = (history.measures.get(unit.name, 0.0) ** 2 for unit in candidate.units)
    return fsum(squares) / candidate.size


def drifted(selection: Selection, round: int, history: History) -> Ranking:
    """Rank by the distance from the base: ``least_drifted`` first, or ``most_drifted`` first.

    The drift of a candidate is the root mean square of its units' relative drifts, weighted by
    size.
    """
    sign = 1 if selection.strategy == "least_drifted" else -1

    def mean_square(candidate: Candidate) -> float:
        measures = ((unit.size, history.measures.get(unit.name, 0.0)) for unit in candidate.units)
        return fsum(size * each**2 for size, each in measures) / candidate.size

    return _scored(selection, round, lambda candidate: sign * mean_square(candidate))


def weighted(selection: Selection, round: int, history: History) -> Ranking:
    """Rank at random, units of heavy categories more often first.

    At model granularity this is weighted sampling without replacement (Efraimidis and Spirakis,
    Information Processing Letters 97, 2006: the largest u^(1/w) first, here the smallest
    -ln(u)/w), with a hash as u. At category granularity the weights set the categories' ratios
    (see :mod:`hft_ray.selection.category_weights`), and units of one category rank uniformly.
    """
    if selection.granularity == "category":
        return random(selection, round, history)

    def waiting_time(candidate: Candidate) -> float:
        (unit,) = candidate.units
        share = weight(unit, selection)
        return _exponential(_hash(selection, round, candidate)) / share if share else inf

    return _scored(selection, round, waiting_time)


def ranking(selection: Selection, round: int, history: History) -> Ranking:
    """Return the ranking of a round by the selection's strategy."""
    match selection.strategy:
        case "random":
            return random(selection, round, history)
        case "cyclic":
            return cyclic(selection, round, history)
        case "gradient":
            return gradient(selection, round, history)
        case "source":
            return source(selection, round, history)
        case "least_drifted" | "most_drifted":
            return drifted(selection, round, history)
        case "weighted":
            return weighted(selection, round, history)


def disjoint(rank: Ranking, history: History) -> Ranking:
    """Rank what was never drawn first, and otherwise by ``rank``.

    As long as there is enough that was never drawn, the draw of a round has nothing in common with
    those before it: at ratio r for 1 / r rounds, by the categories' shares where they are drawn.
    """

    def ranked(candidate: Candidate) -> Key:
        drawn = sum(history.times_drawn.get(unit.name, 0) > 0 for unit in candidate.units)
        scores, tie = rank(candidate)
        return (drawn / len(candidate.units), *scores), tie

    return ranked


def _scored(selection: Selection, round: int, score: Callable[[Candidate], float]) -> Ranking:
    """Rank by ``score``, ties by hash."""
    return lambda candidate: ((score(candidate),), _hash(selection, round, candidate))


def _hash(selection: Selection, round: int, candidate: Candidate) -> str:
    return sha256(f"{selection.seed}:{round}:{candidate.name}".encode()).hexdigest()


# math.log may differ in the last bit between platforms; decimal rounds correctly on all.
_DECIMAL = Context(prec=60)


def _exponential(digest: str) -> float:
    """Return -ln(1 - u) for the hash read as u in (0, 1); it never falls where the hash rises."""
    bits = 4 * len(digest)
    above = Decimal(2 ** (bits + 1) - 2 * int(digest, 16) - 1)
    return float(-_DECIMAL.ln(_DECIMAL.divide(above, Decimal(2 ** (bits + 1)))))
