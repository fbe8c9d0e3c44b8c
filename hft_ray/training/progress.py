"""What a run measures of itself between two reports."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from hft_ray.ranks import Ranks
from hft_ray.training.outcome import TrainingError
from hft_ray.training.resource_metrics import PeakMemory, Throughput

PEAK_OF_RANK = "system/peak_memory_bytes/rank_"
"""Beginning of the metrics that tell the peak memory of each of several ranks."""


class Progress:
    """Losses, throughput and costs of a run.

    Args:
        device: This process's device.
        ranks: The processes that train together.
        peak: Floating point operations per second of the device at best; None if not known.
    """

    def __init__(self, device: torch.device, ranks: Ranks, peak: float | None = None) -> None:
        self._device, self._ranks = device, ranks
        self._peak = peak * ranks.size if peak else None
        self._rate = 0.0
        self._losses: list[dict[str, Tensor]] = []
        self._memory = PeakMemory(device)
        self._started = time.monotonic()
        self.open_window()

    def open_window(self) -> None:
        """Count throughput from now on."""
        self.window = Throughput(self._peak)

    @property
    def seconds(self) -> float:
        """Wall time of the run so far, that before a resume included."""
        return time.monotonic() - self._started

    def add(self, losses: dict[str, Tensor], rate: float) -> None:
        """Take a step.

        Args:
            losses: What it gave: name -> scalar on the device; ``loss`` is among them.
            rate: Its learning rate.
        """
        self._losses.append(losses)
        self._rate = rate

    def metrics(self, done: int) -> dict[str, float]:
        """Return the metrics of the steps since the last call (a collective).

        Raises:
            TrainingError: The loss is not finite.
        """
        names = self._losses[-1]
        means = {x: float(torch.stack([each[x] for each in self._losses]).mean()) for x in names}
        self._losses = []
        # The loss is summed over all ranks, so that all see the same and leave together.
        if not math.isfinite(loss := means["loss"]):
            raise TrainingError(f"the loss became {loss} by step {done}; try a lower learning rate")
        return {
            **{f"train/{name}": mean for name, mean in means.items()},
            "train/learning_rate": self._rate,
            **self.window.metrics(),
            "cost/device_seconds": self.seconds * self._ranks.size,
            **self._peaks(),
        }

    def _peaks(self) -> dict[str, float]:
        """Return the peak memory of the rank with the highest, and of every one of several."""
        peaks = [float(each) for each in self._ranks.gather(self._memory.peak())]
        found = {"cost/peak_memory_bytes": max(peaks)}
        if len(peaks) > 1:
            found |= {f"{PEAK_OF_RANK}{n}": peak for n, peak in enumerate(peaks)}
        return found

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
