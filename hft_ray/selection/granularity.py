"""Granularities: which units are drawn, given a ranking and a budget.

Symbols: r is the ratio, n a number of units, P a number of parameters.

- model: any units of the pool; the first ones of the ranking.
- layer: whole layers, and each unit outside the layers on its own.
- category: the rule of HFT (arXiv 2404.18466, category-level) for any r: from the n units of a
  category in a layer floor(r n) are drawn, and one more in a random set of layers ("randomised
  rounding"). At r = 1/2: 2 of 4 attention matrices, of 3 feed-forward matrices 2 in one half of the
  layers and 1 in the other, 1 of 2 norms. Units outside the layers are categories of their own,
  apart from those inside. Where the categories' shares are not whole numbers, the categories that
  give one more are those that the strategy prefers, then those with the largest remainder. The
  strategy ``weighted`` gives each category a ratio of its own, with the same total.

Budget in matrices: exactly ``round_half_up(r n)`` of the pool (at layer granularity, of its
layers).
Budget in parameters: the sum nearest to r P among the prefixes of the ranking, hence within one
unit (at layer granularity one layer). At least one unit is drawn, and r = 1 draws all.

All arithmetic is in integers and exact fractions: r is the decimal number that the user wrote.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from itertools import groupby
from math import floor
from typing import Literal

from hft_ray.config import Selection
from hft_ray.selection.catalog import Unit
from hft_ray.selection.category_weights import water_filling, weight
from hft_ray.selection.strategies import Candidate, Ranking

Group = list[Candidate]
"""Candidates that are ranked together, such as those of one category: one for each layer."""


def pick(pool: Sequence[Unit], selection: Selection, rank: Ranking) -> list[Unit]:
    """Return the units of ``pool`` that are drawn, in no particular order."""
    ratio = Fraction(str(float(selection.ratio)))
    by_matrices = selection.budget == "matrices"
    if selection.granularity == "category":
        groups = _categories(pool)
        ratios = _ratios(groups, ratio, selection)
        groups = {category: cells for category, cells in groups.items() if ratios[category]}
        drawn = (
            _categories_by_matrices(groups, ratios, rank)
            if by_matrices
            else _categories_by_parameters(groups, ratios, rank)
        )
        units = (unit for cells in groups.values() for unit in _units(cells))
        return drawn or [min(units, key=lambda unit: rank(_single(unit)))]
    ranked = sorted(_candidates(pool, selection.granularity), key=rank)
    count = (
        round_half_up(ratio * len(ranked))
        if by_matrices
        else _nearest_prefix(ranked, ratio * sum(each.size for each in ranked))
    )
    return [unit for each in ranked[: max(1, count)] for unit in each.units]


def round_half_up(value: Fraction) -> int:
    """Return the whole number nearest to ``value``, the greater of two equally near."""
    return floor(value + Fraction(1, 2))


def _candidates(pool: Sequence[Unit], granularity: Literal["model", "layer"]) -> Group:
    match granularity:
        case "model":
            return list(map(_single, pool))
        case "layer":
            return _layers(pool)


def _single(unit: Unit) -> Candidate:
    return Candidate(unit.name, (unit,))


def _layers(pool: Sequence[Unit]) -> Group:
    """Return one candidate per layer, named by its index, and one per unit outside."""
    inside = sorted((unit for unit in pool if unit.layer is not None), key=_layer_index)
    layers = [Candidate(str(index), tuple(units)) for index, units in groupby(inside, _layer_index)]
    return layers + [_single(unit) for unit in pool if unit.layer is None]


def _layer_index(unit: Unit) -> int:
    return -1 if unit.layer is None else unit.layer


def _categories(pool: Sequence[Unit]) -> dict[str, Group]:
    """Return the units by category (inside and outside the layers apart), then by layer."""
    cells: dict[str, dict[int, list[Unit]]] = {}
    for unit in pool:
        category = unit.category if unit.layer is not None else f"outside {unit.category}"
        cells.setdefault(category, {}).setdefault(_layer_index(unit), []).append(unit)
    return {
        category: [
            Candidate(f"{category}:{index}", tuple(units)) for index, units in sorted(cell.items())
        ]
        for category, cell in sorted(cells.items())
    }


def _ratios(groups: dict[str, Group], ratio: Fraction, selection: Selection) -> dict[str, Fraction]:
    """Return the ratio of each category; in units or parameters they add up to the whole's."""
    if selection.strategy != "weighted":
        return dict.fromkeys(groups, ratio)
    units = {category: _units(cells) for category, cells in groups.items()}
    by_matrices = selection.budget == "matrices"
    sizes = {
        category: len(members) if by_matrices else sum(unit.size for unit in members)
        for category, members in units.items()
    }
    weights = {
        category: Fraction(str(weight(members[0], selection)))
        for category, members in units.items()
    }
    return water_filling(ratio, sizes, weights)


def _ranked_units(candidate: Candidate, rank: Ranking) -> Group:
    return sorted(map(_single, candidate.units), key=rank)


def _categories_by_matrices(
    groups: dict[str, Group], ratios: dict[str, Fraction], rank: Ranking
) -> list[Unit]:
    drawn: list[Unit] = []
    for category, quota in _apportion(groups, ratios, rank).items():
        cells, ratio = groups[category], ratios[category]
        counts = {cell.name: floor(ratio * len(cell.units)) for cell in cells}
        fractional = [cell for cell in cells if (ratio * len(cell.units)).denominator != 1]
        more = quota - sum(counts.values())
        assert 0 <= more <= len(fractional)
        for cell in sorted(fractional, key=rank)[:more]:
            counts[cell.name] += 1
        drawn += _units(
            each for cell in cells for each in _ranked_units(cell, rank)[: counts[cell.name]]
        )
    return drawn


def _apportion(
    groups: dict[str, Group], ratios: dict[str, Fraction], rank: Ranking
) -> dict[str, int]:
    """Split the number of units over the categories.

    Each gets its share rounded down. Of those that lose by it, some get one more: by the ranking's
    score, then by largest remainder, then by the ranking's hash.
    """
    units = {category: tuple(_units(cells)) for category, cells in groups.items()}
    ideal = {category: ratios[category] * len(members) for category, members in units.items()}
    quotas = {category: floor(share) for category, share in ideal.items()}
    total = max(1, round_half_up(sum(ideal.values(), Fraction(0))))

    def order(category: str) -> tuple[tuple[float, ...], Fraction, str]:
        score, tie = rank(Candidate(category, units[category]))
        return score, quotas[category] - ideal[category], tie

    losing = [category for category in groups if quotas[category] < ideal[category]]
    for category in sorted(losing, key=order)[: total - sum(quotas.values())]:
        quotas[category] += 1
    assert sum(quotas.values()) == total
    return quotas


def _categories_by_parameters(
    groups: dict[str, Group], ratios: dict[str, Fraction], rank: Ranking
) -> list[Unit]:
    """Diffuse the error from layer to layer, and from small categories to large ones.

    A cell's target is r times its size plus what the cells before it lack. A prefix nearest to the
    target leaves at most half a unit, and where the target lies outside the cell the error only
    shrinks: so it never exceeds half the largest unit. Small categories come first, since a large
    one takes up their error without being distorted, not the other way round.
    """
    drawn: list[Unit] = []
    carry = Fraction(0)
    by_size = sorted(groups, key=lambda category: sum(each.size for each in groups[category]))
    for category in by_size:
        for cell in sorted(groups[category], key=rank):
            ranked = _ranked_units(cell, rank)
            target = ratios[category] * cell.size + carry
            taken = ranked[: _nearest_prefix(ranked, target)]
            carry = target - sum(each.size for each in taken)
            drawn += _units(taken)
    return drawn


def _nearest_prefix(ranked: Group, target: Fraction) -> int:
    """Return how many of ``ranked`` sum up to nearest ``target``; the fewer on a tie."""
    best, best_error, total = 0, abs(target), 0
    for count, candidate in enumerate(ranked, start=1):
        total += candidate.size
        if abs(target - total) < best_error:
            best, best_error = count, abs(target - total)
    return best


def _units(candidates: Iterable[Candidate]) -> list[Unit]:
    return [unit for candidate in candidates for unit in candidate.units]
