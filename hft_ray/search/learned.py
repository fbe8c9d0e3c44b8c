"""What the sampler is to see otherwise than it is stored."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hft_ray.search.fidelity import Extrapolation, Values


class Learned:
    """Takes note of every trial; tells of estimated ends and means over seeds.

    Args:
        objectives: Their metrics.
    """

    def __init__(self, objectives: Sequence[str]) -> None:
        self._objectives = list(objectives)
        self._extrapolation = Extrapolation()
        self._seeds: dict[int, list[Values]] = defaultdict(list)

    def saw(self, number: int, rung: int, values: Mapping[str, float]) -> None:
        """Take a trial's values on a rung; each trial's rungs in ascending order."""
        # An objective that is not compared may have no value while a trial trains.
        if all(name in values for name in self._objectives):
            self._extrapolation.saw(number, rung, [values[name] for name in self._objectives])

    def ended(self, number: int, configuration: int, result: Mapping[str, Any]) -> None:
        """Take a trial's end; ``configuration`` is the first trial with its settings."""
        if result.get("state") == "complete":
            ends = [result["values"][name] for name in self._objectives]
            self._seeds[configuration].append(ends)
            self._extrapolation.completed(number, ends)
        elif result.get("state") in ("pruned", "stopped"):
            self._extrapolation.stopped(number)

    def estimates(self) -> dict[int, Values]:
        """Return trial -> values that stand for its own."""
        found = dict(self._extrapolation.estimates())
        for configuration, ends in self._seeds.items():
            if len(ends) > 1:
                found[configuration] = np.mean(ends, axis=0).tolist()
        return found
