"""95 % confidence intervals of scores and of paired differences.

Accuracies over a few hundred items are too coarse for value +- 1.96 stderr, which has no width at
all when every item is right. So:

    items of 0 and 1            Wilson, J. Am. Stat. Assoc. 22 (1927)
    differences of such items   adjusted Wald: one more item of either sign among the discordant
                                pairs (Bonett and Price, Br. J. Math. Stat. Psychol. 65, 2012)
    anything else               Student's t with n - 1 degrees of freedom, n the number of groups
                                where items are drawn in groups
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from scipy.special import stdtrit

LEVEL = 0.95
Z = 1.959963984540054
"""Quantile (1 + LEVEL) / 2 of the normal distribution."""

Interval = tuple[float, float]


def interval(
    value: float,
    stderr: float,
    items: Sequence[float],
    weights: Sequence[float] | None,
    groups: Sequence[int] | None = None,
) -> Interval:
    """Return the interval of a score from its items; NaN if there are too few."""
    if groups is None and weights is None and all(item in (0.0, 1.0) for item in items):
        return proportion(sum(items), len(items))
    return student(value, stderr, drawn(items, groups))


def paired_interval(
    value: float,
    stderr: float,
    losses: Sequence[float],
    weights: Sequence[float] | None,
    groups: Sequence[int] | None = None,
) -> Interval:
    """Return the interval of a mean difference from the items' differences (see the module)."""
    signs = (-1.0, 0.0, 1.0)
    if groups is None and weights is None and all(loss in signs for loss in losses):
        return paired_proportions(losses.count(1.0), losses.count(-1.0), len(losses))
    return student(value, stderr, drawn(losses, groups))


def proportion(right: float, n: int) -> Interval:
    """Return Wilson's interval of ``right`` out of ``n``."""
    share, z2 = right / n, Z * Z / n
    centre = (share + z2 / 2) / (1 + z2)
    half = Z / (1 + z2) * math.sqrt(share * (1 - share) / n + z2 / (4 * n))
    # At the ends the bound is exactly 0 or 1, which rounding misses.
    low = 0.0 if right == 0 else centre - half
    return low, 1.0 if right == n else centre + half


def paired_proportions(lost: int, gained: int, n: int) -> Interval:
    """Return the adjusted Wald interval of (lost - gained) / n over ``n`` pairs."""
    one, other = (lost + 1) / (n + 2), (gained + 1) / (n + 2)
    half = Z * math.sqrt((one + other - (one - other) ** 2) / (n + 2))
    return one - other - half, one - other + half


def student(value: float, stderr: float, n: int) -> Interval:
    """Return value +- t stderr; NaN with fewer than two items."""
    half = quantile(n) * stderr
    return value - half, value + half


def quantile(n: int) -> float:
    """Return the quantile (1 + LEVEL) / 2 of Student's t for ``n`` items; NaN below two."""
    return float(stdtrit(n - 1, (1 + LEVEL) / 2)) if n > 1 else math.nan


def drawn(items: Sequence[float], groups: Sequence[int] | None) -> int:
    """Return the number of draws: of the items, or of their groups."""
    return len(items) if groups is None else len(set(groups))
