"""The joint noise of the points of one sweep, or of several.

Symbols: n points, m objectives (minimised), K drawn items, C configurations.

    mu (n, m)     true values, unknown
    y  (n, m)     measured values, each the mean over the k_i seeds of a configuration
    A  (n, m, K)  influence of each item on each value, zero where a point did not answer it
    s  (n, m)     standard errors of what is a point's own
    L  (n, m, m)  square root of the covariance between seeds, over sqrt(k_i)

    y_i = mu_i + A_i g + s_i * z_i + L_i u_c(i),    g, z, u standard normal

The items are a sample, and all points answer the same ones: g is common to all points, so that an
item that happens to be hard moves every point, and cancels in the difference of two points that
answer it alike. A_ik is the influence of item k on the value (Hampel, "The influence curve and its
role in robust estimation", JASA 69(346), 1974); drawing g is the multiplier bootstrap (van der
Vaart and Wellner, "Weak convergence and empirical processes", 1996, sec. 2.9). Seeds move a
configuration as a whole: the trained model and what is made of it share u.

Two sources of variance are told apart. Seeds of one configuration answer the same items, so what
items contribute to their mean is in A already. The covariance between measured seeds holds, beside
that of the seeds themselves, the part of the items' effect that differs from seed to seed:

    S = 1/f sum_c sum_r (y_cr - y_c)(y_cr - y_c)'        over configurations c and their seeds r
    I = 1/f sum_c sum_r (A_cr - A_c)(A_cr - A_c)' + ...  the same of the influences, and of s
    f = sum_c (k_c - 1)

and L_i L_i' = (S - I) / k_i, eigenvalues below zero set to zero (the analysis of variance with
components; Searle, Casella and McCulloch, "Variance components", 1992, ch. 3). It is pooled over
all configurations that have several seeds, since two or three seeds of one say little.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hft_ray.pareto.points import Direction, Point

Array = NDArray[np.float64]
Index = NDArray[np.int64] | NDArray[np.bool_] | Sequence[int]


@dataclass(frozen=True)
class Noise:
    """Joint noise of n points in m objectives; see the module for the symbols.

    Attributes:
        own: s, (n, m).
        effects: A, (n, m, K).
        items: What the columns of ``effects`` are, (K,): equal keys are the same item.
        seeds: L, (n, m, m).
        configurations: c, (n,): points with equal keys share the noise of their seeds.
    """

    own: Array
    effects: Array
    items: tuple[Hashable, ...]
    seeds: Array
    configurations: tuple[Hashable, ...]

    @classmethod
    def independent(cls, errors: Array) -> Noise:
        """Return noise without anything in common: standard errors (n, m)."""
        n, m = errors.shape
        return cls(errors, np.zeros((n, m, 0)), (), np.zeros((n, m, m)), tuple(range(n)))

    @property
    def errors(self) -> Array:
        """Standard error of every value, (n, m)."""
        squares = self.own**2 + (self.effects**2).sum(axis=2) + (self.seeds**2).sum(axis=2)
        return np.asarray(np.sqrt(squares))

    def take(self, rows: Index) -> Noise:
        """Return the noise of some of the points."""
        chosen = np.arange(len(self.own))[rows]
        return Noise(
            self.own[chosen],
            self.effects[chosen],
            self.items,
            self.seeds[chosen],
            tuple(self.configurations[index] for index in chosen),
        )

    def difference(self, a: int, b: int) -> Array:
        """Return the standard errors of the values of point ``a`` minus those of ``b``, (m,)."""
        shared = self.configurations[a] == self.configurations[b]
        seeds = [self.seeds[a] - self.seeds[b]] if shared else [self.seeds[a], self.seeds[b]]
        squares = self.own[a] ** 2 + self.own[b] ** 2
        squares += ((self.effects[a] - self.effects[b]) ** 2).sum(axis=1)
        return np.asarray(np.sqrt(squares + sum((each**2).sum(axis=1) for each in seeds)))

    def draw(self, rng: np.random.Generator, count: int) -> Array:
        """Return ``count`` draws of the noise, (count, n, m)."""
        n, m = self.own.shape
        drawn = self.own * rng.standard_normal((count, n, m))
        if self.items:
            g = rng.standard_normal((count, len(self.items)))
            drawn += (g @ self.effects.reshape(n * m, -1).T).reshape(count, n, m)
        if self.seeds.any():
            places = {key: place for place, key in enumerate(dict.fromkeys(self.configurations))}
            u = rng.standard_normal((count, len(places), m))
            shared = u[:, [places[key] for key in self.configurations]]
            drawn += np.einsum("nij,bnj->bni", self.seeds, shared)
        return drawn


def joined(parts: Sequence[tuple[str, Noise]]) -> Noise:
    """Return the noise of the points of several sweeps, one after the other.

    Items with equal keys are the same in all of them; configurations never are.

    Args:
        parts: Name and noise of each sweep.
    """
    items = tuple(dict.fromkeys(key for _, noise in parts for key in noise.items))
    places = {key: place for place, key in enumerate(items)}
    effects = []
    for _, noise in parts:
        n, m = noise.own.shape
        wide = np.zeros((n, m, len(items)))
        wide[:, :, [places[key] for key in noise.items]] = noise.effects
        effects.append(wide)

    def stacked(name: str) -> Any:
        return np.concatenate([getattr(noise, name) for _, noise in parts])

    owners = ((name, key) for name, noise in parts for key in noise.configurations)
    return Noise(stacked("own"), np.concatenate(effects), items, stacked("seeds"), tuple(owners))


def noise_of(
    points: Sequence[Point],
    objectives: Mapping[str, Direction],
    covariance: Array | None = None,
) -> Noise:
    """Return the noise of points of one sweep in their minimised objectives.

    What the items do not explain of a point's standard error counts as its own: all of it where
    the answers are not known, and what an honest error adds where every item is right.

    Args:
        points: The points, measured in every objective.
        objectives: Metric -> direction.
        covariance: That of the seeds, (m, m); by default as these points tell it.
    """
    parts = [_parts(point, objectives) for point in points]
    if covariance is None:
        covariance = _between(parts)
    n, m = len(points), len(objectives)
    root = _root(covariance) if covariance is not None else np.zeros((m, m))
    items = next((x.items for p in points for x in [_first(p).answers] if x is not None), ())
    effects = np.zeros((n, m, len(items)))
    for row, part in zip(effects, parts, strict=True):
        if part.influences.shape[-1]:
            row[:] = part.influences.mean(axis=0)
    counts = np.array([len(part.values) for part in parts], dtype=float)
    return Noise(
        own=np.array([np.sqrt(p.own.sum(axis=0)) / len(p.own) for p in parts]).reshape(n, m),
        effects=effects,
        items=tuple(items),
        seeds=root / np.sqrt(counts)[:, None, None],
        configurations=tuple(point.configuration or point.trial for point in points),
    )


def seed_covariance(points: Sequence[Point], objectives: Mapping[str, Direction]) -> Array | None:
    """Return the covariance between seeds of one configuration, (m, m), without that of the items.

    None where no configuration has several seeds.
    """
    return _between([_parts(point, objectives) for point in points if point.seeds])


@dataclass(frozen=True)
class _Parts:
    """The k seeds of a point, minimised.

    Attributes:
        values: (k, m).
        influences: Of the items, (k, m, K).
        own: Variance of what items do not explain, (k, m).
    """

    values: Array
    influences: Array
    own: Array


def _parts(point: Point, objectives: Mapping[str, Direction]) -> _Parts:
    seeds = [seed for seed in point.seeds if seed.measured(objectives)] or [point]
    signs = np.array([-1.0 if direction == "max" else 1.0 for direction in objectives.values()])
    values = np.array([[seed.values[name] for name in objectives] for seed in seeds]) * signs
    errors = np.array([[_error(seed, name) for name in objectives] for seed in seeds])
    size = max((len(seed.answers.items) for seed in seeds if seed.answers), default=0)
    influences = np.zeros((len(seeds), len(objectives), size))
    for k, seed in enumerate(seeds):
        for j, (name, sign) in enumerate(zip(objectives, signs, strict=True)):
            found = seed.answers.influence(name) if seed.answers else None
            if found is not None:
                influences[k, j] = sign * found
    own = np.maximum(0.0, errors**2 - (influences**2).sum(axis=2))
    return _Parts(values, influences, own)


def _between(parts: Sequence[_Parts]) -> Array | None:
    """Return S - I of the module; None without several seeds."""
    several = [part for part in parts if len(part.values) > 1]
    if not several:
        return None
    m = several[0].values.shape[1]
    total, freedom = np.zeros((m, m)), 0
    for part in several:
        k = len(part.values)
        apart = part.values - part.values.mean(axis=0)
        total += apart.T @ apart
        effects = part.influences - part.influences.mean(axis=0)
        total -= np.einsum("kiq,kjq->ij", effects, effects)
        total -= np.diag((k - 1) * part.own.mean(axis=0))
        freedom += k - 1
    return total / freedom


def _root(covariance: Array) -> Array:
    """Return a square root of the nearest covariance matrix without negative eigenvalues."""
    values, vectors = np.linalg.eigh(covariance)
    return np.asarray(vectors * np.sqrt(np.maximum(values, 0.0)))


def _error(point: Point, name: str) -> float:
    error = point.errors.get(name, 0.0)
    return error if math.isfinite(error) else 0.0


def _first(point: Point) -> Point:
    return point.seeds[0] if point.seeds else point
