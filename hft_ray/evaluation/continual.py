"""Measures of continual learning, from the full matrix of scores.

R has a row for each moment and a column for each task: R[t, i] is the score on task i (from 1)
after training on task t; row 0 is the base, before any training. Higher is better everywhere.

    overall performance   OP_t   = mean over i <= t of R[t, i]
    backward transfer     BWT_t  = 1 / t       sum over i <= t of (R[t, i] - R[i, i])   TRACE
                                 = 1 / (t - 1) sum over i <  t of (R[t, i] - R[i, i])   GEM
    forgetting            F_t    = mean over i < t of (max over 1 <= l < t of R[l, i] - R[t, i])
    forward transfer      FWT    = mean over i > 1 of (R[i-1, i] - b[i])
    learning accuracy     LA     = mean over i of R[i, i]
    general-ability delta       = mean over j of (G[t, j] - G[0, j])

Sources: TRACE, Wang et al., arXiv 2310.06762 (OP, BWT, general ability); GEM, Lopez-Paz and
Ranzato, arXiv 1706.08840 (BWT, FWT); Chaudhry et al., arXiv 1801.10112 (forgetting: from the best
score since training began, the base's not among them); Riemer et al., arXiv 1810.11910 (learning
accuracy). The two BWT differ only in the denominator, since the term i = t is 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Continual:
    """The measures after the last task, in the unit of the scores; NaN where they have no terms.

    Attributes:
        overall_performance: OP.
        backward_transfer: TRACE's BWT; negative = forgotten.
        backward_transfer_gem: GEM's BWT.
        forgetting: Chaudhry's; positive = forgotten.
        forward_transfer: FWT against ``chance``, or the base's own scores.
        learning_accuracy: Mean score on each task right after training on it.
    """

    overall_performance: float
    backward_transfer: float
    backward_transfer_gem: float
    forgetting: float
    forward_transfer: float
    learning_accuracy: float

    def to_json(self) -> dict[str, Any]:
        """Return the measures by name; one without terms is null."""
        return {name: value if math.isfinite(value) else None for name, value in vars(self).items()}


def continual(scores: ArrayLike, chance: ArrayLike | None = None) -> Continual:
    """Return the measures of a whole sequence.

    Args:
        scores: R, [T + 1, T], row 0 the base.
        chance: Score of each task by guessing, [T], for forward transfer as GEM defines it with a
            random model; by default the base's scores R[0, i].

    Raises:
        ValueError: R has another shape, or ``chance`` has.
    """
    R = matrix(scores)
    tasks = R.shape[1]
    return Continual(
        overall_performance=overall_performance(R, tasks),
        backward_transfer=backward_transfer(R, tasks),
        backward_transfer_gem=backward_transfer(R, tasks, gem=True),
        forgetting=forgetting_measure(R, tasks),
        forward_transfer=forward_transfer(R, chance),
        learning_accuracy=learning_accuracy(R),
    )


def matrix(scores: ArrayLike) -> Array:
    """Return R as an array.

    Raises:
        ValueError: It is not [T + 1, T] with T of 1 or more.
    """
    R = np.asarray(scores, dtype=np.float64)
    if R.ndim != 2 or R.shape[1] == 0 or R.shape[0] != R.shape[1] + 1:
        raise ValueError(f"the scores must be [T + 1, T], row 0 the base, not {list(R.shape)}")
    return R


def overall_performance(R: Array, t: int) -> float:
    """Return OP_t, the mean score on the tasks seen by then."""
    return float(R[t, :t].mean())


def backward_transfer(R: Array, t: int, *, gem: bool = False) -> float:
    """Return BWT_t with TRACE's denominator t, or with GEM's t - 1 (NaN for the first task)."""
    changes = R[t, :t] - _diagonal(R)[:t]
    terms = t - 1 if gem else t
    return float(changes.sum() / terms) if terms else math.nan


def forgetting_measure(R: Array, t: int) -> float:
    """Return Chaudhry's F_t, the loss from each earlier task's best score (NaN for the first)."""
    if t < 2:
        return math.nan
    best = R[1:t, : t - 1].max(axis=0)  # [t - 1], rows 1 .. t - 1
    return float((best - R[t, : t - 1]).mean())


def forward_transfer(R: Array, chance: ArrayLike | None = None) -> float:
    """Return FWT: the gain of each task from earlier ones before it was trained (NaN for one task).

    Raises:
        ValueError: ``chance`` has not one number for each task.
    """
    tasks = R.shape[1]
    b = R[0] if chance is None else np.asarray(chance, dtype=np.float64)
    if b.shape != (tasks,):
        raise ValueError(f"chance must have {tasks} numbers, one for each task, not {b.shape}")
    if tasks < 2:
        return math.nan
    before = np.array([R[i, i] for i in range(1, tasks)])  # R[i-1, i] with tasks from 1
    return float((before - b[1:]).mean())


def learning_accuracy(R: Array) -> float:
    """Return LA, the mean score on each task right after training on it."""
    return float(_diagonal(R).mean())


def general_ability_delta(general: ArrayLike) -> Array:
    """Return the gain of general evaluations against the base after every task.

    Args:
        general: G, [T + 1, J], a column for each general evaluation, row 0 the base.

    Returns:
        mean over j of (G[t, j] - G[0, j]), [T]; negative = lost.

    Raises:
        ValueError: There is no row besides the base's, or no column.
    """
    G = np.asarray(general, dtype=np.float64)
    if G.ndim != 2 or G.shape[0] < 2 or G.shape[1] == 0:
        raise ValueError(f"the general scores must be [T + 1, J], not {list(G.shape)}")
    delta: Array = (G[1:] - G[0]).mean(axis=1)
    return delta


def _diagonal(R: Array) -> Array:
    """Return R[i, i] with tasks from 1: the score on each task right after it, [T]."""
    return np.diagonal(R[1:])
