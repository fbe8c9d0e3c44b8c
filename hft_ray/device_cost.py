"""What the time of devices costs: hours, and their price."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hft_ray.config import Cluster

DEVICE_SECONDS = "cost/device_seconds"
"""Metric of a trial: wall time times workers."""


@dataclass(frozen=True)
class DeviceCost:
    """What the time of devices costs.

    Attributes:
        device_hours: Hours of devices. A device is a GPU, of which a worker may hold a share;
            without GPUs it is a worker.
        price: Their price, in the currency of ``cluster.price_per_device_hour``; None without it.
    """

    device_hours: float
    price: float | None

    def __str__(self) -> str:
        hours = f"{self.device_hours:.3g} device hours"
        return hours if self.price is None else f"{hours}, price {self.price:.2f}"

    def times(self, factor: float) -> DeviceCost:
        """Return the cost of so many times as much."""
        price = None if self.price is None else self.price * factor
        return DeviceCost(self.device_hours * factor, price)


def cost_of_workers(cluster: Cluster, seconds: float) -> DeviceCost:
    """Return the cost of a number of seconds, summed over workers."""
    return cost_of_hours(cluster, seconds * (cluster.gpus_per_worker or 1.0) / 3600)


def cost_of_hours(cluster: Cluster, device_hours: float) -> DeviceCost:
    """Return the cost of a number of device hours."""
    price = cluster.price_per_device_hour
    return DeviceCost(device_hours, None if price is None else device_hours * price)


def worker_seconds(cluster: Cluster, result: Mapping[str, Any]) -> float:
    """Return the seconds, summed over workers, that an ended trial took.

    What it measured itself ends with its last score; ``seconds`` counts what came after.

    Args:
        cluster: The section of FILE.
        result: How the trial ended: ``values`` and ``seconds``.
    """
    measured = (result.get("values") or {}).get(DEVICE_SECONDS) or 0.0
    return float(max(measured, (result.get("seconds") or 0.0) * cluster.workers))
