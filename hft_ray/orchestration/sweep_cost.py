"""What a sweep has cost, by what its trials measured."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hft_ray.config import Config
from hft_ray.device_cost import DEVICE_SECONDS, DeviceCost, cost_of_hours, cost_of_workers

if TYPE_CHECKING:
    from hft_ray.tracking import SweepRecord

DEVICE_HOURS = "cost/device_hours"
"""Metric of a sweep, by finished trials."""


def tracked_cost(record: SweepRecord, config: Config) -> DeviceCost | None:
    """Return what a sweep in tracking has cost: its trials that have ended, and those that run.

    None of a sweep that did not log its cost.
    """
    known = record.metrics.get(DEVICE_HOURS)
    running = [each for each in record.trials if each.state == "running"]
    if known is None and len(running) < len(record.trials):
        return None
    seconds = sum(each.metrics.get(DEVICE_SECONDS, 0.0) for each in running)
    hours = (known or 0.0) + cost_of_workers(config.cluster, seconds).device_hours
    return cost_of_hours(config.cluster, hours)


def cost_facts(cost: DeviceCost | None) -> dict[str, str]:
    """Return the cost for the head of a report: label -> text."""
    return {} if cost is None else {"Trials took": str(cost)}
