"""What a run measures of itself: throughput and memory."""

from __future__ import annotations

import time

import psutil
import torch


class Throughput:
    """What one window of steps gets done in its time, re-selection included.

    Args:
        peak: Floating point operations per second that all devices could do; None if not known.
    """

    def __init__(self, peak: float | None = None) -> None:
        self._peak, self._started = peak, time.monotonic()
        self._tokens = self._trained = 0
        self._flops = 0.0

    def add(self, tokens: int, trained: int, flops: float) -> None:
        """Take a step: its tokens, those with a loss, and its floating point operations."""
        self._tokens += tokens
        self._trained += trained
        self._flops += flops

    def metrics(self) -> dict[str, float]:
        """Return the throughput, over all ranks."""
        seconds = max(time.monotonic() - self._started, 1e-9)
        found = {
            "train/tokens_per_second": self._tokens / seconds,
            "train/trained_tokens_per_second": self._trained / seconds,
        }
        if self._peak and self._flops:
            found["train/mfu"] = self._flops / seconds / self._peak
        return found


class PeakMemory:
    """Peak memory of one run: the device's allocations, or on a CPU the process's resident set."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.highest = device, 0
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)

    def peak(self) -> int:
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device)
        # A resident set has no peak that could be reset between runs: the highest seen counts.
        self.highest = max(self.highest, psutil.Process().memory_info().rss)
        return self.highest


class Use:
    """What this process uses of its machine, from one call to the next."""

    def __init__(self, device: torch.device) -> None:
        self._device, self._process = device, psutil.Process()
        self._process.cpu_percent()

    def metrics(self) -> dict[str, float]:
        """Return memory in bytes and use in [0, number of cores] cores, [0, 1] of the device."""
        found = {
            "system/host_memory_bytes": float(self._process.memory_info().rss),
            "system/cores_used": self._process.cpu_percent() / 100,
        }
        if self._device.type == "cuda":
            found["system/device_memory_bytes"] = float(torch.cuda.memory_reserved(self._device))
            found |= _device_use(self._device)
        return found


def _device_use(device: torch.device) -> dict[str, float]:
    try:
        return {"system/device_used": torch.cuda.utilization(device) / 100}
    except (ModuleNotFoundError, RuntimeError):
        # Without NVIDIA's management library, or where a container may not ask it.
        return {}
