"""The learning rate of every step, as a pure function, so that it survives every rebuild."""

from __future__ import annotations

import math
from fractions import Fraction

from hft_ray.config import Training


def learning_rate(step: int, total: int, training: Training, round_start: int = 0) -> float:
    """Return the learning rate of optimizer step ``step`` (from 0) of ``total``.

    Rises linearly over the first ``warmup * total`` steps, then follows ``schedule``: constant, or
    falling to 0 along a line or half a cosine. In the first ``rewarmup`` steps of a round that
    began with a re-selection, at step ``round_start``, it is a rising share of that.
    """
    rate = _scheduled(step, total, training)
    if round_start and step - round_start < training.rewarmup:
        rate *= (step - round_start + 1) / training.rewarmup
    return rate


def _scheduled(step: int, total: int, training: Training) -> float:
    warmup = math.ceil(_as_written(training.warmup) * total)
    if step < warmup:
        return training.learning_rate * (step + 1) / warmup
    if training.schedule == "constant":
        return training.learning_rate
    progress = (step - warmup) / max(1, total - warmup)
    if training.schedule == "linear":
        share = 1 - progress
    else:
        share = 0.5 * (1 + math.cos(math.pi * progress))
    return training.learning_rate * share


def total_steps(training: Training, examples: int) -> int:
    """Return the optimizer steps of training on ``examples`` examples.

    With ``epochs`` as few as hold ``epochs * examples`` examples; the last batch is filled up with
    the beginning of the next epoch.
    """
    if training.steps is not None:
        return training.steps
    return math.ceil(_as_written(training.epochs or 1) * examples / training.batch_size)


def _as_written(number: float) -> Fraction:
    """Return the decimal number that FILE has: 1.1 is 11 / 10, which no float is."""
    return Fraction(str(number))
