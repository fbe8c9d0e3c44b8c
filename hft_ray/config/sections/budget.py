"""When a sweep ends before its last trial: parts of section ``search`` of FILE."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from hft_ray.config.sections.section import PositiveInt, Section

Hours = Annotated[float, Field(gt=0)]


class SweepBudget(Section):
    """Time that a sweep may take. No trial starts after it is spent; running trials end."""

    device_hours: Hours | None = None
    """Hours of all devices (GPUs, or processes on CPUs) in trials that have ended."""
    hours: Hours | None = None
    """Hours that the sweep runs, over all commands that continue it."""

    @model_validator(mode="after")
    def _says_something(self) -> SweepBudget:
        if self.device_hours is None and self.hours is None:
            raise ValueError("give device_hours, hours or both")
        return self


class Plateau(Section):
    """Start no more configurations when the last ones have added almost nothing."""

    trials: PositiveInt
    """Number of last ended configurations to consider."""
    share: Annotated[float, Field(gt=0, lt=1)] = 0.01
    """End when they have added less than this share of the front's hypervolume."""
