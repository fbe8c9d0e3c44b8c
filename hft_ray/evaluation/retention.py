"""Retention: the share of the base's ability that is left, without a unit: 1 = all, 0 = none.

Notation: b and s are the scores of the base and of the current model on the same n items, c is the
score of a guess (chance): the mean of 1 / choices for multiple choice, 1/2 for preferences, else 0.

    a share, and any other metric    retention = (s - c) / (b - c)
    nats per token                   retention = exp(b - s): of a token's probability, the geometric
                                     mean; also exp(-KL), since the base's KL is 0
    bits per byte                    retention = 2^(b - s)
    perplexity                       retention = b / s, the same as exp of the nats' difference

Limits. It is above 1 for a model that is better than the base, and below 0 for one that is worse
than a guess: nothing is cut off, so that noise around a limit stays noise. A perfect base keeps
s - c over 1 - c. A base that is not better than a guess has nothing to retain: its retention is
undefined (NaN here), the metric is absent, and ``retention/mean`` is over the others.

Errors come from the items x_i of the base and y_i of the current model (delta method):

    (s - c) / (b - c) = r    error of the mean of (y_i - c) - r (x_i - c), divided by b - c
    log r = L                error of the mean of L's change with each item, times r

and 95 % intervals for the first from Fieller (J. R. Stat. Soc. B 16, 1954): all r that the mean of
(y_i - c) - r (x_i - c) does not refute at Student's t, which has no ends when the base itself
is not significantly better than a guess; for the second exp of the interval of L.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hft_ray.evaluation.forgetting import same_items
from hft_ray.evaluation.intervals import Interval, quantile, student
from hft_ray.evaluation.score import Bounded, Estimate, Score, Scores, mean_of
from hft_ray.evaluation.standard_errors import PAIRED, clustered, covariance
from hft_ray.evaluation.units import NATS, SHARE, unit

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Retention(Bounded):
    """The share of the base's ability that is left.

    Attributes:
        paired: Whether its error is that of paired items (see ``forgetting.Difference``).
    """

    paired: bool = True


def retained(
    metric: str,
    base: ArrayLike,
    current: ArrayLike,
    chance: float = 0.0,
    higher_is_better: bool = True,
) -> Array:
    """Return the retention of scores of any shape, for example bootstrap replicates of them.

    Args:
        metric: The scores' metric.
        base: Scores of the base, [...].
        current: Scores of the current model, [...].
        chance: What a guess scores.
        higher_is_better: Whether a higher score is better.

    Returns:
        Retentions, [...]; NaN where the base is not better than a guess, or a score is not a
        number.
    """
    b, s = (np.asarray(each, dtype=np.float64) for each in (base, current))
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        if unit(metric) in _LOGS:
            log, _ = _LOGS[unit(metric)]
            found: Array = np.exp(log(b) - log(s))
            return found
        able = b > chance if higher_is_better else b < chance
        return np.where(able, (s - chance) / (b - chance), math.nan)


def retention(base: Scores, current: Scores) -> dict[str, Retention]:
    """Return the retention of each general evaluation: evaluation name -> retention.

    Evaluations that the base is not better at than a guess are left out (see :func:`unable`).
    """
    left_out = unable(base)
    return {
        name: share_left(base.general[name], score)
        for name, score in current.general.items()
        if name not in left_out
    }


def mean_retention(found: dict[str, Retention]) -> Estimate:
    """Return the mean over general evaluations of any unit (``retention/mean``)."""
    return mean_of(list(found.values()))


def unable(base: Scores) -> list[str]:
    """Return the general evaluations in which the base is not better than a guess."""
    return [name for name, score in base.general.items() if math.isnan(_value(score, score))]


def share_left(base: Score, current: Score) -> Retention:
    """Return the retention of one evaluation with its error and interval."""
    value, logs = _value(base, current), _LOGS.get(unit(base.metric))
    if math.isnan(value):
        return Retention(math.nan, math.nan, (math.nan, math.nan))
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        if logs is not None:
            log, slope = logs
            error, count, paired = _error(base, current, slope(base.value), -slope(current.value))
            low, high = student(float(log(base.value) - log(current.value)), error, count)
            bounds = float(np.exp(low)), float(np.exp(high))
            return Retention(value, value * error, bounds, paired)
        ability = base.value - base.chance
        error, count, paired = _error(base, current, -value / ability, 1 / ability)
        return Retention(value, error, _fieller(base, current, quantile(count)), paired)


def _value(base: Score, current: Score) -> float:
    known = base.chance, base.higher_is_better
    return float(retained(base.metric, base.value, current.value, *known))


_LOGS: dict[str, tuple[Callable[[Any], Any], Callable[[float], float]]] = {
    NATS: (np.asarray, lambda score: 1.0),
    "bits_per_byte": (lambda score: math.log(2) * score, lambda score: math.log(2)),
    "byte_perplexity": (np.log, lambda score: 1 / score),
}
"""Unit of a score that tells of probabilities -> the logarithm of its perplexity, and its slope."""


def _pairs(base: Score, current: Score) -> tuple[Array, ArrayLike | None]:
    """Return the values of each draw for base and current model [n, 2], and its weight [n]."""
    items = np.array([base.items, current.items]).T
    if base.groups is None:
        return items, base.weights
    return clustered(items, base.weights, base.groups)


def _error(base: Score, current: Score, one: float, other: float) -> tuple[float, int, bool]:
    """Return the error of ``one`` * base + ``other`` * current, its draws, and if it is paired.

    Of one column, and not from the covariance of two: where nothing changed it is exactly 0.
    """
    if not same_items(base, current):
        error = math.hypot(one * base.stderr, other * current.stderr)
        return error, min(len(base.items), len(current.items)), False
    slopes = np.array([[one], [other]])
    items, weights = _pairs(base, current)
    variance = covariance(items @ slopes, weights, _prior(base) @ slopes)[0, 0]
    return math.sqrt(variance), len(items), True


def _prior(score: Score) -> Array:
    return np.array(PAIRED if unit(score.metric) == SHARE else []).reshape(-1, 2)


def _fieller(base: Score, current: Score, t: float) -> Interval:
    """Return the r with |s' - r b'| <= t * error of (s' - r b'), where x' = x - chance.

    These are the r with A r^2 - 2 B r + C <= 0. They have no ends unless A is above 0, that is
    unless b' is away from 0 by more than t times its error.
    """
    b, s = base.value - base.chance, current.value - base.chance
    if same_items(base, current):
        V = covariance(*_pairs(base, current), _prior(base))
    else:
        V = np.diag([base.stderr**2, current.stderr**2])
    A, B, C = (x - t * t * v for x, v in ((b * b, V[0, 0]), (b * s, V[0, 1]), (s * s, V[1, 1])))
    if not A > 0:
        return (-math.inf, math.inf) if A <= 0 else (math.nan, math.nan)
    # Rounding must not make the root imaginary where nothing changed.
    root = math.sqrt(max(0.0, B * B - A * C))
    return float((B - root) / A), float((B + root) / A)
