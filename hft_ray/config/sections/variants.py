"""Section ``search.variants`` of FILE."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from hft_ray.config.sections.section import Section

Alpha = Annotated[float, Field(gt=0, lt=1)]


class Variants(Section):
    """Models built from each trained one without further training: more points of the front."""

    averages: Annotated[int, Field(ge=0, le=20)] | list[Alpha] = 5
    """Averages with the base's weights, base + alpha (tuned - base): a list of alphas, or their
    number; then alpha 0.5 first, and the next ones where the curve through the known points leaves
    the most room for the front."""
    half_reset: bool = True
    """One model with half of the block set back to the base, at the trial's granularity."""
    steps: Annotated[int, Field(ge=0)] = 5
    """Most intermediate models of a trial, at its evaluations (evaluation.every), that count as
    points and are kept: nondominated ones, spread widest."""

    @property
    def scorings(self) -> int:
        """Variants of a trained model that are scored after its training."""
        averages = self.averages if isinstance(self.averages, int) else len(self.averages)
        return averages + self.half_reset
