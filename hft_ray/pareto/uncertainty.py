"""What noise in the values makes uncertain: membership of the front, and its hypervolume.

Symbols: n points, m objectives, all minimised.

    mu   (n, m)  true values, unknown
    y    (n, m)  measured values, y = mu + sigma z with z standard normal
    sigma (n, m) standard errors, taken as known and as independent between points and objectives

**The bias.** The front is made of the best of many noisy points, so the measured hypervolume HV(y)
is too large on average: with 40 equally good points by several standard errors. A bootstrap draws
around y and adds noise once more; its percentiles lie higher still and can miss the truth every
time, and reflecting them (the basic bootstrap) takes away too little where points are nearly equal.

**The correction** is simulation and extrapolation (SIMEX; Cook and Stefanski, "Simulation-
extrapolation estimation in parametric measurement error models", JASA 89(428), 1994). With the
noise inflated to s = sqrt(1 + lambda) times its size,

    theta(s) = E HV(y + sqrt(lambda) sigma z),    theta(1) = HV(y),

is fitted by a + b s^1.5 + c s^2, and a = theta(0), without noise, is the estimate. The bias grows
as s^2 where the points are well apart and as s where they are equal; the power between them was
chosen by coverage. The variance of the estimate is its bootstrap variance.

Measured on 400 simulated sweeps each (two objectives, 8 to 60 points, standard errors of 0.03 to
0.05 of the objectives' range; fronts convex and concave, few or many points on them, up to all
points equal): the nominal 95 % interval covers the truth in 93.5 to 98.5 %, where percentiles of
the bootstrap cover it in 0 to 96 %. ``tests/pareto/test_pareto_uncertainty.py`` repeats it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

import moocore
import numpy as np
from numpy.typing import NDArray

from hft_ray.pareto.front import Array, hypervolume, nondominated

_LAMBDAS = np.array([0.0, 1.0, 2.0, 3.0])
_CENTRE_DRAWS = 100
_OUTER_DRAWS = 64
_INNER_DRAWS = 4
"""Draws of z; each is used with both signs, which cancels what is odd in it."""
_FAR = 5.0
"""A point this many (joint) standard errors behind another in every objective changes nothing."""


@dataclass(frozen=True)
class Estimate:
    """A number with its standard error.

    Attributes:
        value: The estimate, corrected for the bias that noise gives it.
        error: Its standard error; 0 when nothing is noisy.
    """

    value: float
    error: float

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Return the two-sided normal confidence interval."""
        half = NormalDist().inv_cdf(0.5 + level / 2) * self.error
        return self.value - half, self.value + half

    def minus(self, other: Estimate) -> Estimate:
        """Return the difference of two independent estimates."""
        return Estimate(self.value - other.value, float(np.hypot(self.error, other.error)))


def front_probability(costs: Array, errors: Array, draws: int = 1000, seed: int = 0) -> Array:
    """Return for each of (n, m) costs how probably it is on the true front.

    The share of ``draws`` in which no other point dominates it, every point drawn anew around its
    measured value with its standard error (n, m). Well calibrated when the points are spread out;
    too low for points that are truly equal, of which only some look nondominated.
    """
    rng = np.random.default_rng(seed)
    count = np.zeros(len(costs))
    for _ in range(draws if len(costs) else 0):
        count += nondominated(costs + errors * rng.standard_normal(costs.shape))
    return count / draws


def hypervolume_estimate(costs: Array, errors: Array, reference: Array, seed: int = 0) -> Estimate:
    """Return the hypervolume of the true values, of which (n, m) costs are noisy measurements.

    Args:
        costs: Measured values of all points, not only of those on the front.
        errors: Standard errors (n, m); 0 where a value is exact.
        reference: Reference point (m,).
        seed: Seed of the draws.
    """
    if not len(costs) or not errors.any():
        return Estimate(hypervolume(costs, reference), 0.0)
    keep = ~_far_behind(costs, errors)
    costs, errors = costs[keep], errors[keep]
    rng = np.random.default_rng(seed)
    weights = _extrapolation(np.sqrt(1 + _LAMBDAS))
    volume = moocore.Hypervolume(ref=reference)
    centre = _inflated(costs, errors, volume, _signed(rng, _CENTRE_DRAWS, costs.shape))
    inner = _signed(rng, _INNER_DRAWS, costs.shape)
    replicates = [
        _inflated(costs + errors * z, errors, volume, inner) @ weights
        for z in rng.standard_normal((_OUTER_DRAWS, *costs.shape))
    ]
    return Estimate(float(centre @ weights), float(np.std(replicates, ddof=1)))


def _far_behind(costs: Array, errors: Array) -> NDArray[np.bool_]:
    """Return which points no draw can bring back: another is far better in every objective."""
    worst, best = costs + _FAR * errors, costs - _FAR * errors
    behind = [((worst <= row).all(axis=1) & (worst < row).any(axis=1)).any() for row in best]
    return np.array(behind, dtype=bool)


def _extrapolation(scales: Array) -> Array:
    """Return the weights of theta at ``scales`` that give the least squares fit's value at 0."""
    basis = np.stack([scales**0, scales**1.5, scales**2], axis=1)
    return np.asarray(np.linalg.pinv(basis)[0])


def _inflated(costs: Array, errors: Array, volume: Callable[[Array], float], noise: Array) -> Array:
    """Return theta at every lambda, with the same (b, n, m) standard normal noise for each."""
    means = [volume(costs)]
    for factor in np.sqrt(_LAMBDAS[1:]):
        drawn = costs + factor * errors * noise
        means.append(float(np.mean([volume(each) for each in drawn])))
    return np.array(means)


def _signed(rng: np.random.Generator, draws: int, shape: tuple[int, ...]) -> Array:
    noise = rng.standard_normal((draws, *shape))
    return np.concatenate([noise, -noise])
