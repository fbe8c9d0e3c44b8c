"""What a run measures of itself between two reports."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from hft_ray.training.gauges import PeakMemory, Throughput
from hft_ray.training.outcome import TrainingError


class Progress:
    """Losses, throughput and costs of a run.

    Args:
        device: This process's device.
        ranks: Number of processes.
    """

    def __init__(self, device: torch.device, ranks: int) -> None:
        self._device, self._ranks = device, ranks
        self._losses: list[dict[str, Tensor]] = []
        self._memory = PeakMemory(device)
        self._started = time.monotonic()
        self.window = Throughput()

    def open_window(self) -> None:
        """Count throughput from now on."""
        self.window = Throughput()

    @property
    def seconds(self) -> float:
        """Wall time of the run so far, that before a resume included."""
        return time.monotonic() - self._started

    def add(self, losses: dict[str, Tensor]) -> None:
        """Take what a step gave: name -> scalar on the device; ``loss`` is among them."""
        self._losses.append(losses)

    def metrics(self, done: int) -> dict[str, float]:
        """Return the metrics of the steps since the last call.

        Raises:
            TrainingError: The loss is no number any more.
        """
        names = self._losses[-1]
        means = {x: float(torch.stack([each[x] for each in self._losses]).mean()) for x in names}
        self._losses = []
        # The loss is summed over all ranks, so that all see the same and leave together.
        if not math.isfinite(loss := means["loss"]):
            raise TrainingError(f"the loss became {loss} by step {done}; try a lower learning rate")
        return {
            **{f"train/{name}": mean for name, mean in means.items()},
            "train/tokens_per_second": self.window.rate(),
            "cost/device_seconds": self.seconds * self._ranks,
            "cost/peak_memory_bytes": float(self._memory.peak()),
        }

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint needs, for ``restore``."""
        losses = [{name: float(x) for name, x in each.items()} for each in self._losses]
        return {"losses": losses, "seconds": self.seconds}

    def restore(self, losses: Sequence[dict[str, float]], seconds: float) -> None:
        """Go on from where :meth:`state` was taken."""
        self._losses = [
            {name: torch.tensor(x, device=self._device) for name, x in each.items()}
            for each in losses
        ]
        self._started -= seconds
