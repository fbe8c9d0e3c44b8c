"""Section ``search.variants`` of FILE."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from hft_ray.config.sections.section import Section

Alpha = Annotated[float, Field(gt=0, lt=1)]


def _shares_at_both_ends(tilt: tuple[float, float]) -> tuple[float, float]:
    a, b = tilt
    if not (0 <= a <= 1 and 0 <= a + b <= 1):
        raise ValueError("a and a + b, the shares at the first and last layer, must be in [0, 1]")
    return tilt


Tilt = Annotated[tuple[float, float], AfterValidator(_shares_at_both_ends)]
"""a and b."""


class Variants(Section):
    """Models built from each trained one without further training: more points of the front."""

    averages: Annotated[int, Field(ge=0, le=20)] | list[Alpha] = 5
    """Averages with the base's weights, base + alpha (tuned - base): a list of alphas, or their
    number; then alpha 0.5 first, and the next ones where the curve through the known points leaves
    the most room for the front."""
    depth: Annotated[int, Field(ge=0, le=20)] | list[Tilt] = 0
    """Averages by depth, base + (a + b d) (tuned - base), d from 0 (first layer) to 1 (last): a
    list of [a, b], or their number, at most two for each average; then averages are tilted both
    ways, that first which adds most to the front."""
    half_reset: bool = True
    """One model with half of the block set back to the base, at the trial's granularity."""
    steps: Annotated[int, Field(ge=0)] = 5
    """Most intermediate models of a trial, at its evaluations (evaluation.every), that count as
    points and are kept: nondominated ones, spread widest."""

    @property
    def scorings(self) -> int:
        """Variants of a trained model that are scored after its training."""
        depth = self.depth if isinstance(self.depth, int) else len(self.depth)
        if isinstance(self.depth, int):
            depth = min(depth, self.most_by_depth)
        return self._averages + depth + self.half_reset

    @property
    def most_by_depth(self) -> int:
        """Most averages by depth that a number of them gives: each average is tilted both ways."""
        return 2 * max(1, self._averages)

    @property
    def _averages(self) -> int:
        return self.averages if isinstance(self.averages, int) else len(self.averages)
