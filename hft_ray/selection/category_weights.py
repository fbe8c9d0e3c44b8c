"""Weights of categories as ratios of categories, and of units."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

from hft_ray.config import Selection
from hft_ray.selection.catalog import Unit


def weight(unit: Unit, selection: Selection) -> float:
    """Return the weight of the unit's category; what lies outside the layers weighs 1."""
    return float(getattr(selection.weights, unit.category)) if unit.layer is not None else 1.0


def water_filling(
    ratio: Fraction, sizes: Mapping[str, int], weights: Mapping[str, Fraction]
) -> dict[str, Fraction]:
    """Return a ratio per category, proportional to its weight and at most 1.

    Symbols: r is the ratio, n_c the size and w_c the weight of category c. The result is
    ``r_c = min(1, x w_c)`` with the x for which ``sum r_c n_c = r sum n_c``. Categories of weight 0
    get nothing unless all the others are full; they then share the rest evenly.

    Args:
        ratio: r in (0, 1].
        sizes: Category -> n_c > 0, in units or parameters.
        weights: Category -> w_c >= 0, not all 0.
    """
    rest = ratio * sum(sizes.values())
    ratios = dict.fromkeys(weights, Fraction(0))
    unfilled = {category: each for category, each in weights.items() if each > 0}
    while unfilled:
        level = rest / sum(each * sizes[category] for category, each in unfilled.items())
        full = [category for category, each in unfilled.items() if level * each >= 1]
        if not full:
            return ratios | {category: level * each for category, each in unfilled.items()}
        for category in full:
            ratios[category] = Fraction(1)
            rest -= sizes[category]
            del unfilled[category]
    weightless = [category for category, each in weights.items() if each == 0]
    size = sum(sizes[category] for category in weightless)
    return ratios | {category: rest / size for category in weightless}  # noqa: C420 - size may be 0
