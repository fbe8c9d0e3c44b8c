"""What a run reports while it goes, and its outcome."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Report = Callable[[int, dict[str, float], bool, bool], bool]
"""``report(step, metrics, scored, last)`` -> whether to stop; called on rank 0 alone.

``scored`` is true when the metrics hold every score, not the training loss alone; ``last`` when the
run has no step left, so that there is nothing to stop.
"""


class TrainingError(RuntimeError):
    """A run cannot go on, on every rank at the same step; the message says why."""


@dataclass(frozen=True)
class Round:
    """One draw that was trained.

    Attributes:
        round: Its number, from 0.
        step: Its first optimizer step.
        hash: SHA-256 of the trained names.
        fractions: How much of the model it trained.
        distances: At its end, category (and ``all``) -> relative L2 distance of the parameters from
            the pre-trained ones; empty before, and without the audit.
        touched_fraction: Share of the block parameters trained in this or any earlier round.
    """

    round: int
    step: int
    hash: str
    fractions: dict[str, float]
    distances: dict[str, float] = field(default_factory=dict)
    touched_fraction: float = 0.0


@dataclass(frozen=True)
class ScoredVariant:
    """A model of a run beside its last one, which may be on the front.

    Attributes:
        variant: Its name, see :mod:`hft_ray.training.variant_builder`.
        step: Optimizer steps behind it.
        values: Its scores.
    """

    variant: str
    step: int
    values: dict[str, float]


@dataclass
class Outcome:
    """The outcome of a run.

    Attributes:
        state: ``complete``, or ``stopped`` when a report asked for it.
        values: Metrics at the last step.
        base: Metrics of the untouched model.
        steps: Optimizer steps made.
        seconds: Wall time of training and evaluation.
        selection: The draws that were trained.
        touched_fraction: Share of the block parameters that any draw trained.
        variants: Other models that the run has made, scored.
        continual: Of a sequence of tasks: ``tasks`` and ``general``, names of columns, and ``rows``
            with ``step``, ``tasks`` and ``general``, the base's first.
    """

    state: Literal["complete", "stopped"]
    values: dict[str, float]
    base: dict[str, float]
    steps: int
    seconds: float
    selection: list[Round] = field(default_factory=list)
    touched_fraction: float = 0.0
    variants: list[ScoredVariant] = field(default_factory=list)
    continual: dict[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the content of ``result.json``."""
        content = asdict(self)
        if self.continual is None:
            del content["continual"]
        return content
