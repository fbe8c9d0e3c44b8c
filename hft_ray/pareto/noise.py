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

The variance has two sources. Seeds of one configuration answer the same items, so what
items contribute to their mean is in A already. The covariance between measured seeds holds, beside
that of the seeds themselves, the part of the items' effect that differs from seed to seed:

    S = 1/f sum_c sum_r (y_cr - y_c)(y_cr - y_c)'        over configurations c and their seeds r
    I = 1/f sum_c sum_r (A_cr - A_c)(A_cr - A_c)'        the same of the influences
    f = sum_c (k_c - 1)

and L_i L_i' = (S - I) / k_i, eigenvalues below zero set to zero (the analysis of variance with
components; Searle, Casella and McCulloch, "Variance components", 1992, ch. 3). It is pooled over
all configurations that have several seeds, since two or three seeds of one say little.

What is a point's own comes from the items, too: what an honest error adds where every item is
right, or all of it where the answers are not known. More seeds do not make it smaller, since they
answer the same items: s_i^2 is the mean over the seeds, and nothing of it is taken away from S.
Where the answers are known it stands for unseen items, which are hard for all points
alike: half of its variance is common to all of them. That is the correlation that a prior of half
an item in each cell of the table of pairs has near 0 and 1 (Agresti and Min, Stat. Med. 24, 2005).
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hft_ray.pareto.points import Array, Direction, Point

_ROUNDING = 1e-12
"""Squared distances this small beside the squared lengths are rounding errors of zero."""
_UNSEEN = 0.5
"""Correlation of what points with known answers have beyond them."""
_AT_ONCE = 100
"""Draws in memory at a time."""
Index = NDArray[np.int64] | NDArray[np.bool_] | Sequence[int] | slice


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
        if len(chosen) == len(self.own) and (np.diff(chosen) > 0).all():
            return self
        return Noise(
            self.own[chosen],
            self.effects[chosen],
            self.items,
            self.seeds[chosen],
            tuple(self.configurations[index] for index in chosen),
        )

    def differences(self, rows: Index, columns: Index) -> Array:
        """Return the standard errors of values of rows minus those of columns, (r, c, m)."""
        places = {key: place for place, key in enumerate(dict.fromkeys(self.configurations))}
        owners = np.array([places[key] for key in self.configurations])
        one, other = (np.arange(len(self.own))[each] for each in (rows, columns))
        alone = self.own**2
        squares = alone[one, None] + alone[other] + _apart(self.effects, one, other)
        shared = (owners[one, None] == owners[other])[..., None]
        both = (self.seeds**2).sum(axis=2)
        squares += np.where(shared, _apart(self.seeds, one, other), both[one, None] + both[other])
        return np.asarray(np.sqrt(squares))

    def difference(self, a: int, b: int) -> Array:
        """Return the standard errors of the values of point ``a`` minus those of ``b``, (m,)."""
        return np.asarray(self.differences([a], [b])[0, 0])

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

    def each_draw(self, rng: np.random.Generator, count: int) -> Iterator[Array]:
        """Yield ``count`` draws (n, m), of which few are in memory at a time."""
        for start in range(0, count, _AT_ONCE):
            yield from self.draw(rng, min(_AT_ONCE, count - start))


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

    What the items do not explain of a point's standard error counts as its own where the answers
    are not known; of what an honest error adds to known ones, half is shared (see the module).

    Args:
        points: The points, measured in every objective.
        objectives: Metric -> direction.
        covariance: That of the seeds, (m, m); by default as these points tell it.
    """
    if covariance is None:
        covariance = seed_covariance(points, objectives)
    n, m = len(points), len(objectives)
    root = _root(covariance) if covariance is not None else np.zeros((m, m))
    items = next((x.items for p in points for x in [_first(p).answers] if x is not None), ())
    # A column for each item, and one for what each objective's unseen items do to all points.
    effects = np.zeros((n, m, len(items) + (m if items else 0)))
    own, counts = np.zeros((n, m)), np.ones(n)
    for place, point in enumerate(points):
        part = _parts(point, objectives)
        own[place], counts[place] = part.own.mean(axis=0), len(part.values)
        if part.influences.shape[-1]:
            effects[place, :, : len(items)] = part.influences.mean(axis=0)
            unseen = np.where(part.known, _UNSEEN, 0.0)
            np.fill_diagonal(effects[place, :, len(items) :], np.sqrt(unseen * own[place]))
            own[place] *= 1 - unseen
    return Noise(
        own=np.sqrt(own),
        effects=effects,
        items=(*items, *((name, items) for name in objectives if items)),
        seeds=root / np.sqrt(counts)[:, None, None],
        configurations=tuple(point.configuration or point.trial for point in points),
    )


def errors_with_seeds(points: Sequence[Point], name: str) -> list[float]:
    """Return the standard error of one metric of each point: of items and seeds together.

    As ``noise_of(...).errors``, for little memory.
    """
    objectives: dict[str, Direction] = {name: "min"}
    pooled = _Pooled(1)
    variances = []
    for point in points:
        if len(point.seeds) < 2 and point.errors.get(name) is not None:
            variances.append(_error(point, name) ** 2)
            continue
        part = _parts(point, objectives)
        pooled.add(part)
        items = part.influences.mean(axis=0)[0]
        variances.append(float(part.own.mean() + items @ items))
    between = 0.0 if pooled.covariance is None else max(0.0, float(pooled.covariance[0, 0]))
    pairs = zip(variances, points, strict=True)
    return [math.sqrt(items + between / max(1, len(each.seeds))) for items, each in pairs]


def seed_covariance(points: Sequence[Point], objectives: Mapping[str, Direction]) -> Array | None:
    """Return S - I of the module, (m, m): what seeds differ by beyond the items.

    None where no configuration has several seeds.
    """
    pooled = _Pooled(len(objectives))
    for point in points:
        if len(point.seeds) > 1:
            pooled.add(_parts(point, objectives))
    return pooled.covariance


class _Pooled:
    """S - I, one configuration after the other."""

    def __init__(self, m: int) -> None:
        self._total, self._freedom = np.zeros((m, m)), 0

    def add(self, part: _Parts) -> None:
        apart = part.values - part.values.mean(axis=0)
        effects = part.influences - part.influences.mean(axis=0)
        self._total += apart.T @ apart - np.einsum("kiq,kjq->ij", effects, effects)
        self._freedom += len(part.values) - 1

    @property
    def covariance(self) -> Array | None:
        return self._total / self._freedom if self._freedom else None


@dataclass(frozen=True)
class _Parts:
    """The k seeds of a point, minimised.

    Attributes:
        values: (k, m).
        influences: Of the items, (k, m, K).
        own: Variance of what items do not explain, (k, m).
        known: Whether the influences of an objective are, of all seeds, (m,).
    """

    values: Array
    influences: Array
    own: Array
    known: NDArray[np.bool_]


def _parts(point: Point, objectives: Mapping[str, Direction]) -> _Parts:
    seeds = [seed for seed in point.seeds if seed.measured(objectives)] or [point]
    signs = np.array([-1.0 if direction == "max" else 1.0 for direction in objectives.values()])
    values = np.array([[seed.values[name] for name in objectives] for seed in seeds]) * signs
    errors = np.array([[_error(seed, name) for name in objectives] for seed in seeds])
    size = max((len(seed.answers.items) for seed in seeds if seed.answers), default=0)
    influences = np.zeros((len(seeds), len(objectives), size))
    known = np.ones(len(objectives), dtype=bool)
    for k, seed in enumerate(seeds):
        for j, (name, sign) in enumerate(zip(objectives, signs, strict=True)):
            found = seed.answers.influence(name) if seed.answers else None
            if found is None:
                known[j] = False
            else:
                influences[k, j] = sign * found
    own = np.maximum(0.0, errors**2 - (influences**2).sum(axis=2))
    return _Parts(values, influences, own, known)


def _root(covariance: Array) -> Array:
    """Return a square root of the nearest covariance matrix without negative eigenvalues."""
    values, vectors = np.linalg.eigh(covariance)
    return np.asarray(vectors * np.sqrt(np.maximum(values, 0.0)))


def _apart(vectors: Array, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> Array:
    """Return |x_r - x_c|^2 of vectors (n, m, K), (r, c, m): zero where they are equal."""
    squares = (vectors**2).sum(axis=2)
    both = squares[rows, None] + squares[columns]
    for j in range(vectors.shape[1]):
        both[..., j] -= 2 * vectors[rows, j] @ vectors[columns, j].T
    scale = squares[rows, None] + squares[columns]
    return np.where(both > _ROUNDING * scale, both, 0.0)


def _error(point: Point, name: str) -> float:
    error = point.errors.get(name, 0.0)
    return error if math.isfinite(error) else 0.0


def _first(point: Point) -> Point:
    return point.seeds[0] if point.seeds else point
