"""A Gaussian process over the searched settings: what a configuration that nobody tried would give.

Symbols: n configurations, d settings.

    X    (n, d)  encoded settings: intervals scaled to 0..1, categories as numbers
    y    (n,)    one metric, standardised
    l    (d,)    length scales: how far a setting must move to matter; large is irrelevant
    K    (n, n)  k(x, x') = exp(-1/2 sum_j delta_j(x, x') / l_j^2), delta the squared distance of
                 intervals, and 0 or 1 for categories
    v            noise relative to the signal

l and v maximise the log marginal likelihood (Rasmussen and Williams, "Gaussian processes for
machine learning", 2006, eq. 5.8) with the signal's variance at its optimum y' (K + v I)^-1 y / n,
over a grid, one at a time until nothing changes. A mild prior prefers long scales: with as few
trials as a sweep has, short ones fit noise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from hft_ray.analysis.settings import Array

_SCALES = (0.2, 0.4, 0.8, 1.6, 3.2, 12.0)
_NOISES = (1e-3, 1e-2, 0.05, 0.2, 0.6)
_PRIOR = 0.5
"""Penalty on log(1 / l): the prior's weight in units of log likelihood."""
_SWEEPS = 3
MOST = 400
"""Configurations that are used at most; the cost grows with their cube."""


@dataclass(frozen=True)
class Surrogate:
    """A fitted process; call :func:`fit`.

    Attributes:
        explained: Share of the variance of y that leave-one-out predictions explain; negative when
            the mean would predict better.
    """

    X: Array
    categorical: tuple[bool, ...]
    lengths: Array
    mean: float
    scale: float
    inverse: Array
    weights: Array
    signal: float
    explained: float

    def predict(self, points: Array) -> Array:
        """Return the expected value at (k, d) encoded settings."""
        cross = np.exp(-0.5 * _distance(points, self.X, self.categorical, self.lengths))
        return self.mean + self.scale * (cross @ self.weights)

    def marginal(self, setting: int, places: Array, others: Array) -> tuple[Array, Array]:
        """Return mean and standard deviation of the average over ``others`` at each place.

        Args:
            setting: Number of the setting that is held at a place.
            places: Its encoded values (g,).
            others: Encoded settings (m, d) to average over; their own ``setting`` is ignored.
        """
        lengths = self.lengths.copy()
        lengths[setting] = np.inf
        rest = np.exp(-0.5 * _distance(others, self.X, self.categorical, lengths)).mean(axis=0)
        own = np.zeros((len(places), len(lengths)))
        own[:, setting] = places
        alone = np.full_like(self.lengths, np.inf)
        alone[setting] = self.lengths[setting]
        cross = rest * np.exp(-0.5 * _distance(own, self.X, self.categorical, alone))
        prior = np.exp(-0.5 * _distance(others, others, self.categorical, lengths)).mean()
        variance = prior - np.einsum("gn,nk,gk->g", cross, self.inverse, cross)
        deviation = self.scale * np.sqrt(self.signal * np.maximum(variance, 0.0))
        return self.mean + self.scale * (cross @ self.weights), deviation


def fit(X: Array, y: Array, categorical: tuple[bool, ...]) -> Surrogate:
    """Return the process of (n, d) encoded settings and (n,) values, n >= 2, all finite."""
    mean, scale = float(y.mean()), float(y.std()) or 1.0
    z = (y - mean) / scale
    parts = _parts(X, X, categorical)
    lengths, noise = np.full(X.shape[1], _SCALES[2]), _NOISES[2]
    best = _likelihood(parts, z, lengths, noise)
    for _ in range(_SWEEPS):
        before = best
        for index in range(len(lengths)):
            tried = [_with(lengths, index, each) for each in _SCALES]
            found = [_likelihood(parts, z, each, noise) for each in tried]
            if max(found) > best:
                best, lengths = max(found), tried[int(np.argmax(found))]
        found = [_likelihood(parts, z, lengths, each) for each in _NOISES]
        if max(found) > best:
            best, noise = max(found), _NOISES[int(np.argmax(found))]
        if best == before:
            break
    inverse: Array = np.linalg.inv(_kernel(parts, lengths, noise)).astype(np.float64)
    weights = inverse @ z
    left_out = weights / np.diag(inverse)
    return Surrogate(
        X=X,
        categorical=categorical,
        lengths=lengths,
        mean=mean,
        scale=scale,
        inverse=inverse,
        weights=weights,
        signal=float(z @ weights) / len(z),
        explained=1 - float(left_out @ left_out) / max(float(z @ z), 1e-12),
    )


def _with(lengths: Array, index: int, value: float) -> Array:
    changed = lengths.copy()
    changed[index] = value
    return changed


def _kernel(parts: Array, lengths: Array, noise: float) -> Array:
    """Return K + v I from the squared distances (d, n, n) of each setting."""
    exponent = np.tensordot(1 / lengths**2, parts, axes=1)
    return np.asarray(np.exp(-0.5 * exponent) + noise * np.eye(parts.shape[1]))


def _likelihood(parts: Array, z: Array, lengths: Array, noise: float) -> float:
    root = np.linalg.cholesky(_kernel(parts, lengths, noise))
    half = np.linalg.solve(root, z)
    n = len(z)
    fit = -0.5 * n * math.log(max(float(half @ half) / n, 1e-12)) - np.log(np.diag(root)).sum()
    return float(fit + _PRIOR * np.log(lengths).sum())


def _parts(left: Array, right: Array, categorical: tuple[bool, ...]) -> Array:
    """Return the squared distances (d, k, n) of each setting."""
    difference = left.T[:, :, None] - right.T[:, None, :]
    kinds = np.array(categorical)[:, None, None]
    return np.where(kinds, (difference != 0).astype(np.float64), difference**2)


def _distance(left: Array, right: Array, categorical: tuple[bool, ...], lengths: Array) -> Array:
    return np.asarray(np.tensordot(1 / lengths**2, _parts(left, right, categorical), axes=1))
