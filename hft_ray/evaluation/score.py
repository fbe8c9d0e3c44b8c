"""Scores with their standard errors.

Notation: an evaluation has n items with values x_i and weights w_i (1 for accuracies, the number
of predicted tokens of a document for cross-entropy).

    value   R = sum_i w_i x_i / sum_i w_i
    stderr  see ``errors``

Tokens of one document are not independent, so the document is what counts as drawn; where items of
the data have a ``group`` (several questions on one text), the group is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from hft_ray.evaluation.intervals import Z, interval
from hft_ray.evaluation.standard_errors import SINGLE, clustered, covariance
from hft_ray.evaluation.units import SHARE, one_unit, unit

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
        """Return ``{"value", "stderr", "interval"}``; a number that is not finite is null."""
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
        stderr: Standard error of ``value``, never 0 for a share; NaN with fewer than two items of
            anything else.
        n: Number of items.
        metric: ``accuracy``, ``cross_entropy``, ``kl``, a metric of generation, or lm-eval's name.
        worst: The worst sensible value: 0, or for cross-entropy and KL that of a uniform guess over
            the vocabulary.
        items: Value of each item, in the order of the data. Where a metric of lm-eval is not a
            mean over items: values of groups of items whose mean it is.
        weights: Weight of each item (see the module), or ``None`` where all weigh the same.
        higher_is_better: Whether a higher value is better.
        chance: What a guess scores, where retention is measured from it.
        groups: Group of each item, numbered from 0, of items that are drawn together; ``None``
            where each stands alone.
    """

    value: float
    stderr: float
    n: int
    metric: str
    worst: float
    items: tuple[float, ...]
    weights: tuple[float, ...] | None = None
    higher_is_better: bool = True
    chance: float = 0.0
    groups: tuple[int, ...] | None = None

    @classmethod
    def of(
        cls,
        metric: str,
        items: Sequence[float],
        *,
        worst: float,
        weights: Sequence[float] | None = None,
        chance: float = 0.0,
    ) -> Score:
        """Return the score of the values ``items``, with its standard error."""
        mean = estimate(items, weights, prior=prior_of(metric))
        return cls(
            value=mean.value,
            stderr=mean.stderr,
            n=len(items),
            metric=metric,
            worst=worst,
            items=tuple(items),
            weights=None if weights is None else tuple(weights),
            higher_is_better=metric not in LOWER_IS_BETTER,
            chance=chance,
        )

    def grouped(self, groups: Sequence[int]) -> Score:
        """Return the score with the error that its items have when groups of them are drawn.

        Args:
            groups: Group of each item, [n].
        """
        prior = prior_of(self.metric)
        stderr = estimate(self.items, self.weights, groups, prior).stderr
        return replace(self, stderr=stderr, groups=tuple(groups))

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % confidence interval of ``value`` (see ``intervals``)."""
        return interval(self.value, self.stderr, self.items, self.weights, self.groups)

    @property
    def estimate(self) -> Estimate:
        """The value with its error and interval."""
        return Bounded(self.value, self.stderr, self.interval)

    @property
    def goodness(self) -> float:
        """The value with the sign that makes higher better."""
        return self.value if self.higher_is_better else -self.value

    def to_json(self) -> dict[str, Any]:
        """Return a mapping that ``from_json`` reads; a number that is not finite is null."""
        value, stderr = finite(self.value), finite(self.stderr)
        items = [finite(item) for item in self.items]
        return {**vars(self), "value": value, "stderr": stderr, "items": items}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Score:
        """Return the score that ``to_json`` wrote; null becomes NaN."""
        known: dict[str, Any] = {
            name: tuple(x) if isinstance(x, list) else x for name, x in data.items()
        }
        known |= {name: _number(data[name]) for name in ("value", "stderr")}
        return cls(**known | {"items": tuple(map(_number, data["items"]))})


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
        to be maximised. Errors are combined as those of independent evaluations. A part without
        evaluations, or with scores of several units, has no mean.
        """
        parts = {"task/score": self.task, "general/score": self.general}
        return {
            name: mean_of([Estimate(score.goodness, score.stderr) for score in part.values()])
            for name, part in parts.items()
            if one_unit(score.metric for score in part.values())
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


def estimate(
    items: Sequence[float],
    weights: Sequence[float] | None = None,
    groups: Sequence[int] | None = None,
    prior: ArrayLike = (),
) -> Estimate:
    """Return the weighted mean of ``items`` and its standard error (see ``errors``).

    Args:
        items: Values, [n].
        weights: Weights, [n].
        groups: Groups of items that are drawn together, [n].
        prior: Values of the prior items, [m].
    """
    x = np.asarray(items, dtype=np.float64)[:, None]  # [n, 1]
    w: ArrayLike | None = weights
    with np.errstate(invalid="ignore", over="ignore"):
        mean = float(np.average(x[:, 0], weights=weights))
    if groups is not None:
        x, w = clustered(x, weights, groups)
    return Estimate(mean, math.sqrt(covariance(x, w, prior)[0, 0]))


def prior_of(metric: str) -> ArrayLike:
    """Return the prior items of a metric, [m, 1]: of a share 0 and 1, of anything else none."""
    return SINGLE if unit(metric) == SHARE else ()


def mean_of(estimates: Sequence[Estimate]) -> Estimate:
    """Return the plain mean of independent estimates; its error is sqrt(sum of squares) / k."""
    count = len(estimates)
    value = sum(each.value for each in estimates) / count
    return Estimate(value, math.sqrt(sum(each.stderr**2 for each in estimates)) / count)


def finite(value: float) -> float | None:
    """Return ``value``, or ``None`` (null in JSON) where it is not finite."""
    return value if math.isfinite(value) else None


def _number(value: float | None) -> float:
    return math.nan if value is None else value
