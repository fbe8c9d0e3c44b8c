"""What a front is made of: one point per finished (or unfinished) configuration."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

Direction = Literal["max", "min"]


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

    @property
    def label(self) -> str:
        """Trial id, with the variant's name when there is one."""
        return self.trial if self.variant is None else f"{self.trial} {self.variant}"

    @property
    def full_fine_tuning(self) -> bool:
        """Whether every parameter was trained (``selection.ratio`` 1)."""
        ratio = self.params.get("selection.ratio")
        return isinstance(ratio, int | float) and ratio == 1

    def eligible(self, objectives: Iterable[str]) -> bool:
        """Return whether it can be on a front: complete, measured and within the limits."""
        return self.state == "complete" and self.feasible and self.measured(objectives)

    def measured(self, objectives: Iterable[str]) -> bool:
        """Return whether every objective has a finite value."""
        return all(math.isfinite(self.values.get(name, math.nan)) for name in objectives)
