"""What a run measures of itself: throughput and memory."""

from __future__ import annotations

import time

import psutil
import torch


class Throughput:
    """Tokens per second of one window of steps, re-selection included."""

    def __init__(self) -> None:
        self.tokens, self.started = 0, time.monotonic()

    def add(self, tokens: int) -> None:
        self.tokens += tokens

    def rate(self) -> float:
        return self.tokens / max(time.monotonic() - self.started, 1e-9)


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
