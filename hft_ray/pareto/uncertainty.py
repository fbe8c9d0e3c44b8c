"""What noise in the values makes uncertain: membership of the front, its knee, its hypervolume.

Symbols: n points, m objectives, all minimised; S sweeps.

    mu   (n, m)  true values, unknown
    y    (n, m)  measured values, y = mu + e with the joint noise e of :mod:`hft_ray.pareto.noise`

**The bias.** The front is made of the best of many noisy points, so the measured hypervolume HV(y)
is too large on average: with 40 equally good points by several standard errors. A bootstrap draws
around y and adds noise once more; its percentiles lie higher still and can miss the truth every
time, and reflecting them (the basic bootstrap) takes away too little where points are nearly equal.
Noise that all points share does not make any of them the best, and gives no such bias.

**The correction** is simulation and extrapolation (SIMEX; Cook and Stefanski, "Simulation-
extrapolation estimation in parametric measurement error models", JASA 89(428), 1994). With the
noise inflated to s = sqrt(1 + lambda) times its size,

    theta(s) = E HV(y + sqrt(lambda) e),    theta(1) = HV(y),

is fitted by a + b s^1.5 + c s^2, and a = theta(0), without noise, is the estimate. The bias grows
as s^2 where the points are well apart and as s where they are equal; the power between them was
chosen by coverage. The variance of the estimate is its bootstrap variance. Several sweeps that
answered the same items are drawn together, so that the difference of two hypervolumes has the error
of paired measurements.

``docs/evaluation.md`` has the measured coverage; ``tests/pareto/test_pareto_uncertainty.py``
repeats it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from hft_ray.pareto.dominance import nondominated
from hft_ray.pareto.hypervolume import hypervolume
from hft_ray.pareto.noise import Noise
from hft_ray.pareto.points import Array

_LAMBDAS = np.array([0.0, 1.0, 2.0, 3.0])
_CENTRE_DRAWS = 100
_OUTER_DRAWS = 100
_INNER_DRAWS = 4
"""Draws of the noise; each is used with both signs, which cancels what is odd in it."""
_FAR = 5.0
"""A point this many (joint) standard errors behind another in every objective changes nothing."""


@dataclass(frozen=True)
class IntervalEstimate:
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


@dataclass(frozen=True)
class Volumes:
    """The hypervolumes of several sweeps with their joint error.

    Attributes:
        values: Corrected for the bias of noise, (S,).
        covariance: Of their errors, (S, S).
    """

    values: Array
    covariance: Array

    def of(self, sweep: int) -> IntervalEstimate:
        """Return the hypervolume of a sweep."""
        return IntervalEstimate(
            float(self.values[sweep]), float(np.sqrt(self.covariance[sweep, sweep]))
        )

    def difference(self, a: int, b: int) -> IntervalEstimate:
        """Return the hypervolume of sweep ``a`` minus that of sweep ``b``."""
        c = self.covariance
        variance = c[a, a] + c[b, b] - 2 * c[a, b]
        return IntervalEstimate(
            float(self.values[a] - self.values[b]), float(np.sqrt(max(0.0, variance)))
        )


def front_probability(costs: Array, noise: Noise, draws: int = 1000, seed: int = 0) -> Array:
    """Return for each of (n, m) costs how probably it is on the true front.

    The share of ``draws`` in which no other point dominates it, all points drawn together around
    their measured values. Well calibrated when the points are spread out; too low for points that
    are truly equal, of which only some look nondominated.
    """
    count = np.zeros(len(costs))
    keep = ~far_behind(costs, noise.errors)
    costs, noise = costs[keep], noise.take(keep)
    for drawn in noise.each_draw(np.random.default_rng(seed), draws if len(costs) else 0):
        count[keep] += nondominated(costs + drawn)
    return count / draws


def knee_probability(
    costs: Array, noise: Noise, knee: Callable[[Array], int], draws: int = 1000, seed: int = 0
) -> Array:
    """Return for each of (n, m) costs how probably it is the knee of the true front.

    Args:
        costs: Measured values of all points, not only of those on the front.
        noise: Their noise.
        knee: Returns the row of a front (k, m) that is its knee.
        draws: Number of draws.
        seed: Seed of the draws.
    """
    count = np.zeros(len(costs))
    for drawn in noise.each_draw(np.random.default_rng(seed), draws if len(costs) else 0):
        values = costs + drawn
        front = np.flatnonzero(nondominated(values))
        count[front[knee(values[front])]] += 1
    return count / draws


def hypervolume_estimates(
    costs: Sequence[Array], noise: Noise, reference: Array, seed: int = 0
) -> Volumes:
    """Return the hypervolumes of the true values, of which ``costs`` are noisy measurements.

    Args:
        costs: Measured values (n_s, m) of all points of each sweep, not only of those on its front.
        noise: Joint noise of the points of all sweeps, one sweep after the other.
        reference: Reference point (m,).
        seed: Seed of the draws.
    """
    errors = noise.errors
    if not errors.any():
        volumes = np.array([hypervolume(each, reference) for each in costs])
        return Volumes(volumes, np.zeros((len(costs), len(costs))))
    ends = np.cumsum([len(each) for each in costs])
    keep = np.concatenate(
        [
            ~far_behind(each, errors[end - len(each) : end])
            for each, end in zip(costs, ends, strict=True)
        ]
    )
    sweep = np.repeat(np.arange(len(costs)), [len(each) for each in costs])[keep]
    values, noise = np.concatenate(costs)[keep], noise.take(keep)

    def volumes_of(drawn: Array) -> Array:
        return np.array([hypervolume(drawn[sweep == s], reference) for s in range(len(costs))])

    rng = np.random.default_rng(seed)
    weights = _extrapolation(np.sqrt(1 + _LAMBDAS))
    centre = _inflated(values, volumes_of, _signed(noise.draw(rng, _CENTRE_DRAWS)))
    inner = _signed(noise.draw(rng, _INNER_DRAWS))
    replicates = [
        weights @ _inflated(values + drawn, volumes_of, inner)
        for drawn in noise.each_draw(rng, _OUTER_DRAWS)
    ]
    covariance = np.atleast_2d(np.cov(np.array(replicates), rowvar=False))
    return Volumes(weights @ centre, covariance)


def hypervolume_estimate(
    costs: Array, noise: Noise, reference: Array, seed: int = 0
) -> IntervalEstimate:
    """Return the hypervolume of one sweep; see :func:`hypervolume_estimates`."""
    return hypervolume_estimates([costs], noise, reference, seed).of(0)


def far_behind(costs: Array, errors: Array) -> NDArray[np.bool_]:
    """Return which points no draw can bring back: another is far better in every objective."""
    worst, best = costs + _FAR * errors, costs - _FAR * errors
    worst = np.unique(worst[nondominated(worst)], axis=0)
    behind = [((worst <= row).all(axis=1) & (worst < row).any(axis=1)).any() for row in best]
    return np.array(behind, dtype=bool)


def _extrapolation(scales: Array) -> Array:
    """Return the weights of theta at ``scales`` that give the least squares fit's value at 0."""
    basis = np.stack([scales**0, scales**1.5, scales**2], axis=1)
    return np.asarray(np.linalg.pinv(basis)[0])


def _inflated(costs: Array, volumes: Callable[[Array], Array], noise: Array) -> Array:
    """Return theta at every lambda, (4, S), with the same (b, n, m) noise for each."""
    means = [volumes(costs)]
    for factor in np.sqrt(_LAMBDAS[1:]):
        means.append(np.mean([volumes(costs + factor * each) for each in noise], axis=0))
    return np.array(means)


def _signed(noise: Array) -> Array:
    return np.concatenate([noise, -noise])
