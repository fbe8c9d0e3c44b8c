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

What seeds differ by grows with the learning rate and with the distance from the base, so that it is
pooled over the arms of a task for each rate and share alone. Where an arm has fewer seeds than
another, both are read from the first seed, which all have: the least of several noisy curves would
favour the arm with the noisier ones.

Symbols: n points, b draws; the first entry of an array over draws is what was measured.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from results import TASK, TaskResults
from sweeps import DEPTH

from hft_ray.pareto import Direction, Point, noise_of, seed_covariance
from hft_ray.pareto.noise import Noise, joined
from hft_ray.pareto.spread import alpha_of
from hft_ray.pareto.uncertainty import IntervalEstimate

Array = NDArray[np.float64]
SHARES = (0.5, 0.8, 0.9, 1.0)
"""Levels: shares of the most that full fine-tuning and its averages gain over the base."""
LEAST_RATE = 1e-4
DRAWS = 1000
LEAST_REACHED = 0.975
"""Share of the draws that must reach a level for an error to be told."""


def place_of(point: Point) -> float:
    """Return how far a point is from the base on its line: 0 to 1."""
    if point.variant is None:
        return 1.0
    alpha = alpha_of(point.variant)
    assert alpha is not None, point.variant
    return alpha


def rate_of(point: Point) -> int:
    """Return which of the three learning rates of its arm is the nearest: 0 to 2."""
    rate = float(point.params["training.learning_rate"]) / (10 if point.arm == "lora" else 1)
    return min(2, max(0, round(2 * math.log10(rate / LEAST_RATE))))


def curves_of(points: Sequence[Point], arm: str, ends: bool = False) -> list[list[int]]:
    """Return the curves of an arm as rows of points, from the base's end on; the base is row -1.

    Args:
        points: The points of a task.
        arm: Which arm.
        ends: Whether trained models alone count, each a curve of its own without the base.
    """
    rows = [row for row, point in enumerate(points) if point.arm == arm]
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

    def over(self, number: float) -> Reading:
        """Return it as a multiple of a number."""
        return Reading(self.value / number, self.draws / number)

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


def verdict(found: IntervalEstimate | None, seeds: bool = True) -> str:
    """Return what a difference of losses says: less, more, or nothing.

    Args:
        found: The difference, None where a level is not reached.
        seeds: Whether its error knows what seeds differ by.
    """
    if found is None:
        return "not reached"
    low, high = found.interval()
    if low <= 0 <= high:
        return "not decided"
    said = "forgets less" if high < 0 else "forgets more"
    return said if seeds else f"{said} (of items alone)"


class Study:
    """Reads arms at levels, on all tasks together.

    Args:
        results: The tasks.
        lost: The metric that tells what is forgotten, lower is better.
        draws: Number of draws.
        seed: Seed of the draws.
        first: Whether to read the first seed of each configuration alone.
    """

    def __init__(
        self,
        results: Sequence[TaskResults],
        lost: str,
        draws: int = DRAWS,
        seed: int = 0,
        *,
        first: bool = False,
    ) -> None:
        self.results, self._lost = list(results), lost
        self._draws, self._seed, self._first = draws, seed, first
        self._objectives: dict[str, Direction] = {TASK: "min", lost: "min"}
        self._points = {each.task: self._measured(each) for each in results}
        parts = [(task, self._noise(points)) for task, points in self._points.items()]
        noise = joined(parts)
        drawn = _drawn(noise, draws, seed)
        self._values: dict[str, Array] = {}
        start = 0
        for task, points in self._points.items():
            read = [p.seeds[0] if first and p.seeds else p for p in points]
            measured = np.array([[p.values[name] for name in self._objectives] for p in read])
            own = drawn[:, start : start + len(points)]
            self._values[task] = np.concatenate([measured[None], measured[None] + own])
            start += len(points)

    @cached_property
    def first_seed(self) -> Study:
        """The same of the first seed of each configuration alone."""
        return Study(self.results, self._lost, self._draws, self._seed, first=True)

    def fair(self, *arms: str) -> Study:
        """Return what arms are compared on: the first seed, where any has fewer seeds."""
        counts = [
            {self.seeds(task, arm) for arm in arms if arm in self.arms(task)}
            for task in self._points
        ]
        return self if all(len(each) < 2 for each in counts) else self.first_seed

    def seeds(self, task: str, arm: str) -> int:
        """Return the most seeds that a configuration of an arm has."""
        return max(max(1, len(p.seeds)) for p in self._points[task] if p.arm == arm)

    def knows_seeds(self, *tasks: str) -> bool:
        """Return whether the errors of tasks hold what seeds differ by."""
        return all(any(len(p.seeds) > 1 for p in self._points[task]) for task in tasks)

    def _measured(self, results: TaskResults) -> list[Point]:
        """Return the points of a task, the base last."""
        found = [p for p in results.points if p.measured(self._objectives)]
        return [*found, results.base]

    def _noise(self, points: Sequence[Point]) -> Noise:
        read = [p.seeds[0] if self._first and p.seeds else p for p in points]
        noise = noise_of(read, self._objectives, np.zeros((2, 2)))
        seeds = noise.seeds.copy()
        groups: dict[tuple[int, str | None], list[int]] = {}
        for row, point in enumerate(points[:-1]):  # the base is not trained
            groups.setdefault((rate_of(point), point.variant), []).append(row)
        for rows in groups.values():
            several = [points[row] for row in rows if len(points[row].seeds) > 1]
            if several:
                covariance = seed_covariance(several, self._objectives)
                own = noise_of([read[row] for row in rows], self._objectives, covariance)
                seeds[rows] = own.seeds
        return replace(noise, seeds=seeds)

    def points(self, task: str) -> list[Point]:
        """Return the points of a task, the base last."""
        return self._points[task]

    def arms(self, task: str) -> list[str]:
        """Return the trained arms of a task, full fine-tuning first."""
        found = dict.fromkeys(p.arm for p in self._points[task] if p.arm not in (None, DEPTH))
        return sorted(map(str, found), key=lambda arm: arm != "full")

    def best_full(self, task: str, *, averages: bool = False) -> int:
        """Return the row of full fine-tuning's best at the task: of its trained models, or of all.

        Args:
            task: The task.
            averages: Whether averages with the base count too.
        """
        points = self._points[task]
        rows = [
            row
            for row, point in enumerate(points)
            if point.arm == "full" and (averages or point.variant is None)
        ]
        return min(rows, key=lambda row: self.score(task, row)[0])

    def level(self, task: str, share: float) -> Array:
        """Return a level of the task: a share of what full fine-tuning gains, averages included."""
        best = self.score(task, self.best_full(task, averages=True))
        # Exact at 0 and 1.
        return (1 - share) * self.score(task, -1) + share * best

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
