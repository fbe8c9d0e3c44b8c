"""Forgetting: the base's score minus the current one, on the same items.

Both models answer the same items, so the error of the difference comes from the items'
differences d_i = x_i - y_i (the equations of ``errors`` with d_i for x_i); it is smaller than that
of two independent scores, since hard items are hard for both.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from hft_ray.evaluation.intervals import Z, paired_interval
from hft_ray.evaluation.score import Bounded, Estimate, Score, Scores, estimate, mean_of
from hft_ray.evaluation.standard_errors import PAIRED
from hft_ray.evaluation.units import SHARE, unit


@dataclass(frozen=True)
class Difference(Bounded):
    """How much was lost, in the score's unit; positive = lost.

    Attributes:
        paired: Whether the error is that of item-wise differences; else the two scores come from
            different items, and their errors are combined as independent ones.
        bounds: Its 95 % confidence interval.
    """

    paired: bool = True


def forgetting(base: Scores, current: Scores) -> dict[str, Difference]:
    """Return the loss of each general evaluation since ``base``: evaluation name -> difference.

    Base minus current where higher is better, current minus base for cross-entropy.
    """
    return {name: difference(base.general[name], score) for name, score in current.general.items()}


def mean_forgetting(differences: dict[str, Difference]) -> Estimate:
    """Return the mean over general evaluations of one unit (``forgetting/mean``)."""
    return mean_of(list(differences.values()))


def difference(base: Score, current: Score) -> Difference:
    """Return how much worse ``current`` is than ``base``, with its standard error."""
    sign = 1.0 if base.higher_is_better else -1.0
    lost = sign * (base.value - current.value) + 0.0  # + 0.0: no loss is 0, not -0
    if not same_items(base, current):
        stderr = math.hypot(base.stderr, current.stderr)
        return Difference(lost, stderr, (lost - Z * stderr, lost + Z * stderr), paired=False)
    losses = [sign * (x - y) for x, y in zip(base.items, current.items, strict=True)]
    prior = [x - y for x, y in PAIRED] if unit(base.metric) == SHARE else []
    stderr = estimate(losses, base.weights, base.groups, prior).stderr
    bounds = paired_interval(lost, stderr, losses, base.weights, base.groups)
    return Difference(lost, stderr, bounds)


def same_items(base: Score, current: Score) -> bool:
    """Whether two scores are of the same items, so that they are compared item by item."""
    one, other = (
        (score.metric, len(score.items), score.weights, score.groups) for score in (base, current)
    )
    return one == other
