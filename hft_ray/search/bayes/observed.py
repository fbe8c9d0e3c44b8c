"""What trials gave, as a model learns from it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from hft_ray.search.bayes.encoding import Encoding, Mask, key
from hft_ray.search.bayes.scales import Array

LOST = 16
"""So many of the last trials that gave no value count as if they were still under way."""
FAR = 10.0
"""Values so many interquartile ranges below the lower quartile count as if they were there."""


@dataclass(frozen=True)
class Reading:
    """Values at one position of what a trial yields.

    Attributes:
        values: Value of each objective.
        limits: Constraint -> how far it is violated.
        position: Where it lies between the untouched model (0) and the trained one (1).
    """

    values: Sequence[float]
    limits: Mapping[str, float]
    position: float = 1.0


Readings = Callable[[FrozenTrial], Sequence[Reading]]
"""A complete trial -> what it yields: its trained model, and averages with the base."""


def ends(trial: FrozenTrial) -> list[Reading]:
    """Return the trained model alone."""
    return [Reading(trial.values, trial.constraints)]


@dataclass
class Observed:
    """What trials gave.

    Attributes:
        points: The points with values, one row for each position, shape ``(n, settings)``.
        positions: Where on its curve each value lies, shape ``(n,)``.
        values: All of them to be large, shape ``(n, m)``.
        limits: Violations of the constraints at the points, then at ``forbidden``; NaN where one
            was not measured. Shape ``(n + f, constraints)``.
        forbidden: Points without values that violate constraints, shape ``(f, settings)``.
        pending: Points of which no value is known yet, or ever, shape ``(p, settings)``.
        known: Keys of all points.
        trials: How many trials gave all this.
    """

    points: Array
    positions: Array
    values: Array
    limits: Array
    forbidden: Array
    pending: Array
    known: set[bytes]
    trials: int

    @property
    def curved(self) -> bool:
        """Whether any trial yields more than its trained model."""
        return bool((self.positions != 1).any())

    @property
    def feasible(self) -> Mask:
        """Whether the constraints hold at each point that has values."""
        violated = np.nan_to_num(self.limits[: len(self.points)]) > 0
        return np.asarray(~violated.any(axis=1))


@dataclass(frozen=True)
class Known:
    """What is known of the objectives beside what trials gave, all to be large.

    Attributes:
        reference: What is worth nothing, shape ``(m,)``; None: the worst that there is.
        base: What the untouched model gives, where every curve begins, shape ``(m,)``, if known.
        best: What cannot be surpassed, shape ``(m,)``, infinite where none is known.
    """

    reference: Array | None = None
    base: Array | None = None
    best: Array | None = None


@dataclass
class _Rows:
    points: list[Array] = field(default_factory=list)
    readings: list[Reading] = field(default_factory=list)
    limits: list[dict[str, float]] = field(default_factory=list)

    def add(self, point: Array, reading: Reading) -> None:
        self.points.append(point)
        self.readings.append(reading)
        self.limits.append(_finite(reading.limits))


def observed(
    trials: Iterable[FrozenTrial],
    encoding: Encoding,
    directions: Sequence[StudyDirection],
    readings: Readings = ends,
) -> Observed:
    """Return what trials gave; those whose settings lie outside the space are left out."""
    good, bad = _Rows(), _Rows()
    running: list[Array] = []
    lost: list[Array] = []
    seen: list[Array] = []
    for trial in trials:
        point = encoding.point(trial.params) if trial.params else None
        if point is None:
            continue
        seen.append(point)
        if trial.state == TrialState.RUNNING:
            running.append(point)
        elif trial.state == TrialState.COMPLETE and all(map(math.isfinite, trial.values)):
            for each in readings(trial):
                good.add(point, each)
        elif any(x > 0 for x in _finite(trial.constraints).values()):
            bad.add(point, Reading((), trial.constraints))
        elif trial.state.is_finished():
            lost.append(point)
    settings = len(encoding.settings)
    return Observed(
        np.array(good.points).reshape(-1, settings),
        np.array([each.position for each in good.readings]),
        np.array([r.values for r in good.readings]).reshape(-1, len(directions))
        * signs(directions),
        _table(good.limits + bad.limits, len(good.limits)),
        np.array(bad.points).reshape(-1, settings),
        np.array([*running, *lost[-LOST:]]).reshape(-1, settings),
        {key(each) for each in seen},
        len(seen),
    )


def _finite(limits: Mapping[str, float]) -> dict[str, float]:
    return {name: x for name, x in limits.items() if math.isfinite(x)}


def signs(directions: Sequence[StudyDirection]) -> Array:
    """Return what values are multiplied with so that all are to be large."""
    return np.array([1.0 if each == StudyDirection.MAXIMIZE else -1.0 for each in directions])


def _table(limits: Sequence[dict[str, float]], complete: int) -> Array:
    """Return violations by trial and constraint.

    A complete trial to which a constraint was not applied kept it: one that ran out of memory is
    recorded by a constraint of its own.
    """
    names = sorted({name for each in limits for name in each})
    rows = [
        [each.get(name, -1.0 if number < complete else math.nan) for name in names]
        for number, each in enumerate(limits)
    ]
    return np.array(rows, dtype=float).reshape(len(limits), len(names))


@dataclass
class Scaled:
    """Values as a model learns them: of mean 0 and deviation 1.

    Constant objectives are left out, and the others come in an order of their own, so that neither
    the order nor the scale of the objectives changes anything.

    Attributes:
        values: Shape ``(n, k)``.
        columns: Which objectives they are.
        center: What was taken from the values, by objective.
        spread: What they were divided by.
    """

    values: Array
    columns: list[int]
    center: Array
    spread: Array

    def like(self, values: Array) -> Array:
        """Return other values, shape ``(m,)``, on this scale, shape ``(k,)``."""
        return np.asarray((values - self.center) / self.spread)[self.columns]


def standardised(values: Array) -> Scaled:
    """Return values as a model learns them.

    Values far below all others, such as those of a training that diverged, count as the least that
    is not far.
    """
    low, high = np.quantile(values, [0.25, 0.75], axis=0)
    bounded = np.where(high > low, np.maximum(values, low - FAR * (high - low)), values)
    center, spread = bounded.mean(axis=0), bounded.std(axis=0)
    varied = spread > 1e-12 * np.abs(bounded).max(axis=0)
    spread = np.where(varied, spread, 1.0)
    scaled = np.where(varied, (bounded - center) / spread, 0.0).round(9)
    chosen = [int(place) for place in np.flatnonzero(varied)] or [0]
    columns = sorted(chosen, key=lambda column: tuple(scaled[:, column]))
    return Scaled(scaled[:, columns], columns, center, spread)
