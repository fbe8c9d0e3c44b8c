"""What a front is made of: one point per finished (or unfinished) configuration."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Direction = Literal["max", "min"]


FORECAST = "forecast/kl"
"""Metric: how far a model has moved from the base, which may foretell what it forgets."""


class ItemInfluences(Protocol):
    """What a point scored on the single items that all points of its sweep answer."""

    @property
    def items(self) -> tuple[Hashable, ...]:
        """The items (or clusters of items that were drawn together), (K,)."""

    def influence(self, metric: str) -> Array | None:
        """Return what each item contributes to the error of a metric, (K,).

        The sum of the squares is the squared standard error; None where it is not made up of items.
        """


@dataclass(frozen=True)
class Point:
    """One configuration in the space of the objectives.

    Attributes:
        trial: Trial id.
        variant: Name of a variant made after training (weight average, reset), or None.
        run_id: MLflow run, or None when it is not known.
        state: running, complete, pruned, failed or stopped.
        step: Optimizer step at which the values were measured.
        params: Configuration, dotted key -> value.
        values: Metric -> value, in its own unit; objectives and whatever else is worth showing.
        errors: Metric -> standard error of the value; may be empty.
        feasible: Whether it keeps the limits of its sweep.
        configuration: Shared by the seeds of one configuration; None in a sweep without seeds.
        arm: The arm that it belongs to; None in a sweep without arms.
        answers: Its scores of single items, where they are known.
        seeds: The points that it is the mean of; empty for a single one.
    """

    trial: str
    variant: str | None
    run_id: str | None
    state: str
    step: int
    params: dict[str, Any] = field(default_factory=dict)
    values: dict[str, float] = field(default_factory=dict)
    errors: dict[str, float] = field(default_factory=dict)
    feasible: bool = True
    configuration: str | None = None
    arm: str | None = None
    answers: ItemInfluences | None = field(default=None, compare=False, repr=False)
    seeds: tuple[Point, ...] = field(default=(), compare=False, repr=False)

    @property
    def label(self) -> str:
        """Trial id, with the variant's name when there is one."""
        return self.trial if self.variant is None else f"{self.trial} {self.variant}"

    def setting(self, key: str) -> Any:
        """Return a setting as it is shown: the arm is the point's own, nothing is ``""``."""
        return self.arm if key == "arm" else self.params.get(key, "")

    @property
    def full_fine_tuning(self) -> bool:
        """Whether it is the baseline: ``selection.ratio`` 1, or the arm ``full``."""
        if self.arm is not None:
            return self.arm == "full"
        ratio = self.params.get("selection.ratio")
        return isinstance(ratio, int | float) and ratio == 1

    def eligible(self, objectives: Iterable[str]) -> bool:
        """Return whether it can be on a front: complete, measured and within the limits."""
        return self.state == "complete" and self.feasible and self.measured(objectives)

    def measured(self, objectives: Iterable[str]) -> bool:
        """Return whether every objective has a finite value."""
        return all(math.isfinite(self.values.get(name, math.nan)) for name in objectives)
