"""Values that the sampler sees in place of those stored: estimated ends, and means over seeds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hft_ray.search.fidelity import Extrapolation, Values


class ValueEstimates:
    """Collects the values of every trial; estimates those of stopped and repeated ones.

    Args:
        objectives: Their metrics.

    Attributes:
        objectives: The same.
    """

    def __init__(self, objectives: Sequence[str]) -> None:
        self.objectives = list(objectives)
        self._extrapolation = Extrapolation()
        self._seeds: dict[int, list[Values]] = defaultdict(list)

    def add_rung(self, number: int, rung: int, values: Mapping[str, float]) -> None:
        """Add a trial's values at a rung; the rungs of a trial in ascending order."""
        # An objective that the rungs do not compare may have no value during training.
        if all(name in values for name in self.objectives):
            self._extrapolation.add_rung(number, rung, [values[name] for name in self.objectives])

    def add_end(self, number: int, configuration: int, result: Mapping[str, Any]) -> None:
        """Add a trial's result; ``configuration`` is the first trial with its settings."""
        if result.get("state") == "complete":
            ends = [result["values"][name] for name in self.objectives]
            self._seeds[configuration].append(ends)
            self._extrapolation.add_end(number, ends)
        elif result.get("state") in ("pruned", "stopped"):
            self._extrapolation.add_stopped(number)

    def values(self) -> dict[int, Values]:
        """Return trial -> values that replace its own."""
        found = dict(self._extrapolation.estimates())
        for configuration, ends in self._seeds.items():
            if len(ends) > 1:
                found[configuration] = np.mean(ends, axis=0).tolist()
        return found
