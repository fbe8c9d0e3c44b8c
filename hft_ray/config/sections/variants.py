"""Section ``search.variants`` of FILE."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from hft_ray.config.sections.section import Section

Alpha = Annotated[float, Field(gt=0, lt=1)]


class Variants(Section):
    """Models made of each trained one without training it further, as more points of the front."""

    averages: Annotated[int, Field(ge=0, le=20)] | list[Alpha] = 3
    """Averages with the base's weights, base + alpha (tuned - base): a list of alphas, or how many;
    then alpha 0.5 first, and on where the curve through them leaves most room for the front."""
    half_reset: bool = True
    """One model with half of the block put back to the base, at the trial's granularity."""
    steps: Annotated[int, Field(ge=0)] = 5
    """Most models of a trial at the evaluations on the way (evaluation.every) that count as points
    and are kept: those that no other one of the trial dominates, spread widest."""
