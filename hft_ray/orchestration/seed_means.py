"""Means and deviations over the seeds of a configuration, as metrics of its runs."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from statistics import fmean, stdev

from hft_ray.pareto import Point
from hft_ray.tracking import run_key

MEAN, DEVIATION = "seeds/mean/", "seeds/deviation/"
_MEANS = ("/score", "/mean")


class SeedMeans:
    """Logs mean and standard deviation over the seeds so far whenever one more has ended.

    They are the same in all runs of a configuration; their step is the number of seeds.

    Args:
        log: Logs metrics: the run's key, the step, the values.
        metrics: The metrics, beside scores and means.
        seeds: Seeds of a configuration.
    """

    def __init__(
        self,
        log: Callable[[str, int, Mapping[str, float]], None],
        metrics: Collection[str],
        seeds: int,
    ) -> None:
        self._log, self._metrics, self._seeds = log, set(metrics), seeds
        self._groups: dict[tuple[str, str | None], list[Point]] = {}

    def put(self, points: Sequence[Point]) -> None:
        """Take the points of a trial that has ended; those without a configuration are left out."""
        for point in points:
            if point.state != "complete" or point.configuration is None:
                continue
            group = self._groups.setdefault((point.configuration, point.variant), [])
            group.append(point)
            if len(group) > 1:
                values = self._values(group)
                for each in group:
                    self._log(run_key(each.trial, each.variant), len(group), values)

    def all_ended(self, point: Point) -> bool:
        """Return whether a point's configuration has several seeds, all of which have ended."""
        group = self._groups.get((point.configuration or "", point.variant), ())
        return 1 < self._seeds <= len(group)

    def _values(self, group: Sequence[Point]) -> dict[str, float]:
        found = {}
        for name in group[0].values:
            measured = [each.values.get(name, math.nan) for each in group]
            wanted = name in self._metrics or name.endswith(_MEANS)
            if wanted and all(map(math.isfinite, measured)):
                found[MEAN + name] = fmean(measured)
                found[DEVIATION + name] = stdev(measured)
        return found
