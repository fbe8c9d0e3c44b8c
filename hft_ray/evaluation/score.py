"""Scores with their standard errors.

Notation: an evaluation has n items with values x_i and weights w_i (1 for accuracies, the number
of predicted tokens of a document for cross-entropy).

    value   R = sum_i w_i x_i / sum_i w_i
    stderr  sqrt(n / (n - 1) * sum_i w_i^2 (x_i - R)^2) / sum_i w_i

With equal weights the second line is the sample standard error of the mean; else it is the
linearised error of a ratio of sums over documents (Cochran, Sampling Techniques, 1977, eq. 6.13
without the finite population correction): tokens of one document are not independent, so the
document is what counts as drawn.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from hft_ray.evaluation.intervals import Z, interval

if TYPE_CHECKING:
    from torch import Tensor

LOWER_IS_BETTER = ("cross_entropy", "kl")
"""The project's own metrics for which a lower value is better."""


@dataclass(frozen=True)
class Estimate:
    """A value and its standard error in the same unit; the error is NaN where it is unknown."""

    value: float
    stderr: float

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % confidence interval; here that of a normal distribution."""
        return self.value - Z * self.stderr, self.value + Z * self.stderr

    def to_json(self) -> dict[str, Any]:
        """Return ``{"value", "stderr", "interval"}``; what is no finite number is null."""
        return {
            "value": finite(self.value),
            "stderr": finite(self.stderr),
            "interval": [finite(bound) for bound in self.interval],
        }


@dataclass(frozen=True)
class Bounded(Estimate):
    """An estimate whose interval is not that of a normal distribution.

    Attributes:
        bounds: Its 95 % confidence interval.
    """

    bounds: tuple[float, float]

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % confidence interval."""
        return self.bounds


@dataclass(frozen=True)
class Score:
    """The result of one evaluation.

    Attributes:
        value: Accuracy and the metrics of generation in [0, 1]; cross-entropy and KL in nats per
            token; a metric of lm-eval in its unit. NaN when the model's outputs are.
        stderr: Standard error of ``value``; NaN with fewer than two items.
        n: Number of items.
        metric: ``accuracy``, ``cross_entropy``, ``kl``, a metric of generation, or lm-eval's name.
        worst: The worst sensible value: 0, or for cross-entropy and KL that of a uniform guess over
            the vocabulary.
        items: Value of each item, in the order of the data. Where a metric of lm-eval is no mean
            over items: values of groups of items whose mean it is.
        weights: Weight of each item (see the module), or ``None`` where all weigh the same.
        higher_is_better: Whether a higher value is better.
    """

    value: float
    stderr: float
    n: int
    metric: str
    worst: float
    items: tuple[float, ...]
    weights: tuple[float, ...] | None = None
    higher_is_better: bool = True

    @classmethod
    def of(
        cls,
        metric: str,
        items: Sequence[float],
        *,
        worst: float,
        weights: Sequence[float] | None = None,
    ) -> Score:
        """Return the score of the values ``items``, with its standard error."""
        mean = estimate(items, weights)
        return cls(
            value=mean.value,
            stderr=mean.stderr,
            n=len(items),
            metric=metric,
            worst=worst,
            items=tuple(items),
            weights=None if weights is None else tuple(weights),
            higher_is_better=metric not in LOWER_IS_BETTER,
        )

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % confidence interval of ``value`` (see ``intervals``)."""
        return interval(self.value, self.stderr, self.items, self.weights)

    @property
    def estimate(self) -> Estimate:
        """The value with its error and interval."""
        return Bounded(self.value, self.stderr, self.interval)

    @property
    def goodness(self) -> float:
        """The value with the sign that makes higher better."""
        return self.value if self.higher_is_better else -self.value

    def to_json(self) -> dict[str, Any]:
        """Return a mapping that ``from_json`` reads; what is no finite number is null."""
        return {
            "value": finite(self.value),
            "stderr": finite(self.stderr),
            "n": self.n,
            "metric": self.metric,
            "worst": self.worst,
            "items": [finite(item) for item in self.items],
            "weights": None if self.weights is None else list(self.weights),
            "higher_is_better": self.higher_is_better,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Score:
        """Return the score that ``to_json`` wrote; null becomes NaN."""
        weights = data["weights"]
        return cls(
            value=_number(data["value"]),
            stderr=_number(data["stderr"]),
            n=data["n"],
            metric=data["metric"],
            worst=data["worst"],
            items=tuple(_number(item) for item in data["items"]),
            weights=None if weights is None else tuple(weights),
            higher_is_better=data["higher_is_better"],
        )


@dataclass(frozen=True)
class Scores:
    """The scores of one model: evaluation name -> score, in the order of FILE."""

    task: dict[str, Score]
    general: dict[str, Score]
    references: dict[str, dict[str, Tensor]] = field(
        default_factory=dict, compare=False, repr=False
    )
    """Of the base: evaluation name -> what later models are compared with. Not part of the JSON."""

    @property
    def means(self) -> dict[str, Estimate]:
        """``task/score`` and ``general/score``: means of the evaluations' goodness.

        An evaluation's goodness is its value, negated where lower is better, so that the means are
        to be maximised. Accuracies and nats are averaged as they are. Errors are combined as those
        of independent evaluations. A part without evaluations has no mean.
        """
        parts = {"task/score": self.task, "general/score": self.general}
        return {
            name: mean_of([Estimate(score.goodness, score.stderr) for score in part.values()])
            for name, part in parts.items()
            if part
        }

    def with_values(self, value: Callable[[Score], float]) -> Scores:
        """Return the scores with another value of each."""
        task, general = (
            {name: replace(score, value=value(score)) for name, score in part.items()}
            for part in (self.task, self.general)
        )
        return Scores(task, general)

    def to_json(self) -> dict[str, Any]:
        """Return a mapping that ``from_json`` reads."""
        return {
            "task": {name: score.to_json() for name, score in self.task.items()},
            "general": {name: score.to_json() for name, score in self.general.items()},
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Scores:
        """Return the scores that ``to_json`` wrote."""
        return cls(
            task={name: Score.from_json(score) for name, score in data["task"].items()},
            general={name: Score.from_json(score) for name, score in data["general"].items()},
        )


def estimate(items: Sequence[float], weights: Sequence[float] | None = None) -> Estimate:
    """Return the weighted mean of ``items`` and its standard error (equations of the module)."""
    x = np.asarray(items, dtype=np.float64)  # [n]
    w = np.ones_like(x) if weights is None else np.asarray(weights, dtype=np.float64)  # [n]
    n, total = len(x), w.sum()
    # A diverged model gives infinite or NaN items; these pass through without numpy's warnings.
    with np.errstate(invalid="ignore", over="ignore"):
        mean = (w * x).sum() / total
        squares = ((w * (x - mean)) ** 2).sum()
        stderr = math.sqrt(n / (n - 1) * squares) / total if n > 1 else math.nan
    return Estimate(float(mean), float(stderr))


def mean_of(estimates: Sequence[Estimate]) -> Estimate:
    """Return the plain mean of independent estimates; its error is sqrt(sum of squares) / k."""
    count = len(estimates)
    value = sum(each.value for each in estimates) / count
    return Estimate(value, math.sqrt(sum(each.stderr**2 for each in estimates)) / count)


def finite(value: float) -> float | None:
    """Return ``value``, or ``None`` (null in JSON) for what is no finite number."""
    return value if math.isfinite(value) else None


def _number(value: float | None) -> float:
    return math.nan if value is None else value
