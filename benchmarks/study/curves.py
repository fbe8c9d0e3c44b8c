"""What is forgotten at a level of the task, on curves of averages, with joint errors.

A trained model, its averages with the base, and the base itself are points of a line in the space
of weights: its curve. Between neighbours both scores are read by straight lines. At a level of the
task an arm forgets what the best of its curves (one for each learning rate or configuration)
forgets where it crosses that level.

The scores are noisy: items are a sample, and so are seeds. Draws of the joint noise of all points
(:mod:`hft_ray.pareto.noise`: items that several points answer move them together, also across
tasks; seeds move a configuration as a whole) are added to the scores, and everything is read anew,
the choice of the best curve too. Levels are scores of the same draw: full fine-tuning's, or shares
of the way there from the base, so that an item that happens to be hard moves level and arms alike.
The standard error of what is read, or of a difference, is its deviation over these draws.

Symbols: n points, b draws; the first entry of an array over draws is what was measured.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from results import TASK, TaskResults

from hft_ray.pareto import Direction, Point, noise_of, seed_covariance
from hft_ray.pareto.noise import Noise, joined
from hft_ray.pareto.spread import alpha_of
from hft_ray.pareto.tilts import tilt_of
from hft_ray.pareto.uncertainty import IntervalEstimate

Array = NDArray[np.float64]
SHARES = (0.5, 0.8, 0.9, 1.0)
"""Levels: shares of what the best trained model of full fine-tuning gains over the base."""
DRAWS = 1000
LEAST_REACHED = 0.975
"""Share of the draws that must reach a level for an error to be told."""


def place_of(point: Point) -> float:
    """Return how far a point is from the base on its line: 0 to 1."""
    if point.variant is None:
        return 1.0
    alpha, tilt = alpha_of(point.variant), tilt_of(point.variant)
    if tilt is not None:
        return tilt[0] + tilt[1] / 2
    assert alpha is not None, point.variant
    return alpha


def curves_of(points: Sequence[Point], arm: str, ends: bool = False) -> list[list[int]]:
    """Return the curves of an arm as rows of points, from the base's end on; the base is row -1.

    Args:
        points: The points of a task.
        arm: Which arm.
        ends: Whether trained models alone count, each a curve of its own without the base.
    """
    rows = [row for row, point in enumerate(points) if point.arm == arm]
    trained = {p.configuration: row for row, p in enumerate(points) if p.variant is None}
    if arm == "depth":
        # Each has a line of its own, through the base, it and the trained model.
        return [[-1, row, trained[points[row].configuration]] for row in rows]
    if ends:
        return [[row] for row in rows if points[row].variant is None]
    by_configuration: dict[str | None, list[int]] = {}
    for row in rows:
        by_configuration.setdefault(points[row].configuration, []).append(row)
    return [
        [-1, *sorted(own, key=lambda row: place_of(points[row]))]
        for own in by_configuration.values()
    ]


def crossing(task: Array, lost: Array, level: Array) -> Array:
    """Return the least that is lost where a curve crosses a level of the task.

    Args:
        task: Task's cross-entropy along a curve, (b, k), lower is better.
        lost: What is lost there, (b, k).
        level: The level, (b,).

    Returns:
        (b,), nan where the curve does not reach it. A curve of one point counts where it is at
        least as good.
    """
    if task.shape[1] == 1:
        return np.where(task[:, 0] <= level, lost[:, 0], np.nan)
    best = np.full(len(task), np.inf)
    for here, there in pairwise(range(task.shape[1])):
        a, b = task[:, here], task[:, there]
        width = np.where(a == b, 1.0, b - a)
        share = (level - a) / width
        inside = (a != b) & (share >= 0) & (share <= 1)
        value = lost[:, here] + share * (lost[:, there] - lost[:, here])
        best = np.where(inside, np.minimum(best, value), best)
    return np.where(np.isinf(best), np.nan, best)


def lowest(curves: Sequence[Array]) -> Array:
    """Return the least of several curves' values, (b,); nan where none reaches the level."""
    stacked = np.array([np.where(np.isnan(each), np.inf, each) for each in curves])
    best = stacked.min(axis=0)
    return np.where(np.isinf(best), np.nan, best)


@dataclass(frozen=True)
class Reading:
    """A number that is read off the scores: its value, and the same of every draw.

    Attributes:
        value: Of the measured scores; nan where a level is not reached.
        draws: Of the drawn scores, (b,).
    """

    value: float
    draws: Array

    def __sub__(self, other: Reading) -> Reading:
        return Reading(self.value - other.value, self.draws - other.draws)

    def __truediv__(self, other: Reading) -> Reading:
        return Reading(self.value / other.value, self.draws / other.draws)

    @property
    def reached(self) -> float:
        """Share of the draws that reach the level."""
        return float(np.isfinite(self.draws).mean())

    @property
    def estimate(self) -> IntervalEstimate | None:
        """The value with its standard error; None where it is not reached, or hardly."""
        known = self.draws[np.isfinite(self.draws)]
        if not math.isfinite(self.value) or self.reached < LEAST_REACHED:
            return None
        return IntervalEstimate(self.value, float(known.std(ddof=1)) if len(known) > 1 else 0.0)


def mean_of(readings: Sequence[Reading]) -> Reading:
    """Return the mean of readings of the same draws."""
    value = float(np.mean([each.value for each in readings]))
    return Reading(value, np.mean([each.draws for each in readings], axis=0))


def verdict(found: IntervalEstimate | None) -> str:
    """Return what a difference of losses says: less, more, or nothing."""
    if found is None:
        return "not reached"
    low, high = found.interval()
    if high < 0:
        return "forgets less"
    return "forgets more" if low > 0 else "not decided"


class Study:
    """Reads arms at levels, on all tasks together.

    Args:
        results: The tasks.
        lost: The metric that tells what is forgotten, lower is better.
        draws: Number of draws.
        seed: Seed of the draws.
    """

    def __init__(
        self, results: Sequence[TaskResults], lost: str, draws: int = DRAWS, seed: int = 0
    ) -> None:
        self.results, self._lost = list(results), lost
        self._objectives: dict[str, Direction] = {TASK: "min", lost: "min"}
        self._points = {each.task: self._measured(each) for each in results}
        parts = [(task, self._noise(points)) for task, points in self._points.items()]
        noise = joined(parts)
        drawn = _drawn(noise, draws, seed)
        self._values: dict[str, Array] = {}
        start = 0
        for task, points in self._points.items():
            measured = np.array([[p.values[name] for name in self._objectives] for p in points])
            own = drawn[:, start : start + len(points)]
            self._values[task] = np.concatenate([measured[None], measured[None] + own])
            start += len(points)

    def _measured(self, results: TaskResults) -> list[Point]:
        """Return the points of a task, the base last."""
        found = [p for p in results.points if p.measured(self._objectives)]
        return [*found, results.base]

    def _noise(self, points: Sequence[Point]) -> Noise:
        noise = noise_of(points, self._objectives, seed_covariance(points, self._objectives))
        seeds = noise.seeds.copy()
        seeds[-1] = 0.0  # the base is not trained
        return replace(noise, seeds=seeds)

    def points(self, task: str) -> list[Point]:
        """Return the points of a task, the base last."""
        return self._points[task]

    def arms(self, task: str) -> list[str]:
        """Return the arms of a task, full fine-tuning first."""
        found = dict.fromkeys(p.arm for p in self._points[task] if p.arm)
        return sorted(found, key=lambda arm: arm != "full")

    def best_full(self, task: str) -> int:
        """Return the row of the trained full fine-tuning that is best at the task."""
        points = self._points[task]
        rows = [curve[0] for curve in curves_of(points, "full", ends=True)]
        return min(rows, key=lambda row: points[row].values[TASK])

    def level(self, task: str, share: float) -> Array:
        """Return the level of a task that is a share of what full fine-tuning's best end gains."""
        base = self.score(task, -1)
        return base + share * (self.score(task, self.best_full(task)) - base)

    def score(self, task: str, row: int) -> Array:
        """Return the task's scores of a row: the measured one, and those of the draws, (1 + b,)."""
        return self._values[task][:, row, 0]

    def at(self, task: str, arm: str, level: Array, *, ends: bool = False) -> Reading:
        """Return what an arm forgets at a level; of its trained models alone with ``ends``."""
        curves = curves_of(self._points[task], arm, ends)
        return self._read(task, curves, level)

    def configuration_at(self, task: str, arm: str, configuration: str, level: Array) -> Reading:
        """Return what one configuration of an arm forgets at a level."""
        points = self._points[task]
        curves = [
            curve
            for curve in curves_of(points, arm)
            if points[curve[-1]].configuration == configuration
        ]
        return self._read(task, curves, level)

    def end(self, task: str, row: int) -> Reading:
        """Return what the point of a row forgets."""
        values = self._values[task][:, row, 1]
        return Reading(float(values[0]), values[1:])

    def _read(self, task: str, curves: Sequence[Sequence[int]], level: Array) -> Reading:
        values = self._values[task]
        found = [crossing(values[:, c, 0], values[:, c, 1], level) for c in map(list, curves)]
        if not found:
            return Reading(math.nan, np.full(len(values) - 1, np.nan))
        least = lowest(found)
        return Reading(float(least[0]), least[1:])


def _drawn(noise: Noise, draws: int, seed: int) -> Array:
    """Return draws of the noise, (b, n, m)."""
    rng = np.random.default_rng(seed)
    return np.array(list(noise.each_draw(rng, draws)))


def best_configuration(
    study: Study, task: str, arm: str, level: Array
) -> Mapping[str, object] | None:
    """Return the settings of an arm's configuration that forgets least at a level."""
    points = study.points(task)
    read = {
        str(p.configuration): study.configuration_at(task, arm, str(p.configuration), level).value
        for p in points
        if p.arm == arm
    }
    known = {key: value for key, value in read.items() if math.isfinite(value)}
    if not known:
        return None
    best = min(known, key=lambda key: known[key])
    return next(p.params for p in points if p.configuration == best)
