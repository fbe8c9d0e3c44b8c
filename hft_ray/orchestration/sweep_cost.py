"""What a sweep has cost, by what its trials measured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hft_ray.config import Cluster, Config
from hft_ray.device_cost import DeviceCost, cost_of_hours, cost_of_workers

if TYPE_CHECKING:
    from hft_ray.tracking import SweepRecord

DEVICE_HOURS = "cost/device_hours"
"""Metric of a sweep, by finished trials."""
_DEVICE_SECONDS = "cost/device_seconds"
"""Metric of a trial: wall time times workers."""


def worker_seconds(cluster: Cluster, result: Mapping[str, Any]) -> float:
    """Return the seconds, summed over workers, that an ended trial took.

    What it measured itself ends with its last score; ``seconds`` counts what came after.

    Args:
        cluster: The section of FILE.
        result: How the trial ended: ``values`` and ``seconds``.
    """
    measured = (result.get("values") or {}).get(_DEVICE_SECONDS) or 0.0
    return float(max(measured, (result.get("seconds") or 0.0) * cluster.workers))


def tracked_cost(record: SweepRecord, config: Config) -> DeviceCost | None:
    """Return what a sweep in tracking has cost: its trials that have ended, and those that run.

    None of a sweep that did not log its cost.
    """
    known = record.metrics.get(DEVICE_HOURS)
    running = [each for each in record.trials if each.state == "running"]
    if known is None and len(running) < len(record.trials):
        return None
    seconds = sum(each.metrics.get(_DEVICE_SECONDS, 0.0) for each in running)
    hours = (known or 0.0) + cost_of_workers(config.cluster, seconds).device_hours
    return cost_of_hours(config.cluster, hours)


def cost_facts(cost: DeviceCost | None) -> dict[str, str]:
    """Return the cost for the head of a report: label -> text."""
    return {} if cost is None else {"Trials took": str(cost)}
