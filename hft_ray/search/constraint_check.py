"""The constraints of a sweep: by how much the scores of a trial violate them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hft_ray.config import ConfigError, Problem
from hft_ray.config.sections.constraints import Constraint
from hft_ray.search.trial_snapshot import finite


class ConstraintCheck:
    """Compares scores with the constraints, of which some are relative to the untouched model.

    Args:
        constraints: The constraints.
    """

    def __init__(self, constraints: Sequence[Constraint]) -> None:
        self._constraints = constraints
        self._base: dict[str, float] = {}

    def set_base_scores(self, values: Mapping[str, float]) -> None:
        """Set the scores of the untouched model, metric -> value.

        Raises:
            ConfigError: A constraint is relative to a score that is missing.
        """
        needed = {each.metric for each in self._constraints if each.of_base}
        if lacking := needed - finite(values).keys():
            problem = f"the untouched model has no score in {', '.join(sorted(lacking))}"
            raise ConfigError(Problem("search.constraints", problem))
        self._base = dict(values)

    def violations(self, values: Mapping[str, float]) -> dict[str, float]:
        """Return constraint -> amount of the violation, 0 or less where it holds."""
        return {str(each): each.violation(values, self._base) for each in self._constraints}

    def violation_in_training(self, values: Mapping[str, float]) -> float:
        """Return the sum of the violations of a trial that has not ended.

        Two kinds of constraints are ignored, since they may hold at the end: those of metrics that
        are not measured yet, and those that the untouched model violates.
        """
        counted = [
            each
            for each in self._constraints
            if each.metric in values
            and not (each.metric in self._base and each.violation(self._base, self._base) > 0)
        ]
        return sum(max(0.0, each.violation(values, self._base)) for each in counted)
