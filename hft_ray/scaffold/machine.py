"""What this machine has room and time for."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import psutil
import torch

from hft_ray.config import Variants
from hft_ray.training.plan import DEVICE_FLOPS

_SHARE = {"cuda": 0.92, "cpu": 0.7}
"""Share of a device's memory, or of the machine's, that trials may take together."""
_LEAN: dict[str, Any] = {
    "training.optimizer_states": "bf16",
    "training.adam_betas": [0.9, 0.99],
}
_STEPS_OF_MEMORY: tuple[tuple[dict[str, Any], str], ...] = (
    ({}, "a trial fits one device"),
    ({"training.gradient_checkpointing": True}, "activations are computed again to make room"),
    (
        {"training.gradient_checkpointing": True, **_LEAN},
        "activations are computed again, and optimizer states are bf16, to make room",
    ),
)
"""Settings that make room, the cheapest first."""
_SCORINGS = 1 + Variants().scorings
"""The trained model and the variants that a sweep makes by default."""
_DECODING = {"cuda": 20.0, "cpu": 2.0}
"""A generated token costs so many times what one in a forward pass over many does."""
_PASS = 0.01
"""Seconds that a forward or backward pass takes beside its arithmetic."""
_START = 5.0
"""Seconds of a trial that are neither training nor scoring."""


@dataclass(frozen=True)
class Machine:
    """Devices and memory in bytes."""

    gpus: int
    gpu_bytes: int
    cores: int
    bytes: int

    @property
    def kind(self) -> str:
        """``cuda`` or ``cpu``."""
        return "cuda" if self.gpus else "cpu"


def this_machine() -> Machine:
    """Return what there is here."""
    gpus = torch.cuda.device_count()
    sizes = [torch.cuda.get_device_properties(n).total_memory for n in range(gpus)]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return Machine(gpus, min(sizes, default=0), cores or 1, psutil.virtual_memory().available)


@dataclass(frozen=True)
class Room:
    """How trials share the machine.

    Attributes:
        groups: Trials at the same time.
        workers: Workers of each.
        settings: Dotted settings that make room.
        why: The reason, in words.
    """

    groups: int
    workers: int
    settings: dict[str, Any] = field(default_factory=dict)
    why: str = ""


def find_room(machine: Machine, memory: Callable[[dict[str, Any]], int]) -> Room | None:
    """Return how trials share the machine; None if it has no room for one.

    Args:
        machine: The machine.
        memory: Dotted settings -> bytes that a worker takes at the largest ratio.
    """
    share = _SHARE[machine.kind]
    whole = machine.gpu_bytes if machine.gpus else machine.bytes
    for settings, why in _STEPS_OF_MEMORY:
        needed = memory(settings)
        if needed > share * whole:
            continue
        if machine.gpus:
            return Room(machine.gpus, 1, settings, why)
        groups = max(1, min(machine.cores, int(share * whole / needed)))
        return Room(groups, 1, settings, why)
    if machine.gpus > 1:
        settings = {**_STEPS_OF_MEMORY[-1][0], "training.zero_stage": 3}
        settings["cluster.workers"] = machine.gpus
        if memory(settings) <= share * whole:
            return Room(1, machine.gpus, settings, "a trial is divided among all devices (ZeRO-3)")
    return None


@dataclass(frozen=True)
class Work:
    """What a trial computes.

    Attributes:
        parameters: Of the model.
        trained: Tokens that are trained on.
        read: Tokens of one scoring that pass the model.
        written: Tokens of one scoring that it generates.
        steps: Optimizer steps.
        passes: Forward passes of one scoring.
    """

    parameters: int
    trained: float
    read: float
    written: float
    steps: float
    passes: float

    def seconds(self, machine: Machine, workers: int) -> float:
        """Return the time of a trial by arithmetic, its scorings included.

        A token costs 6 operations for each parameter in training and 2 in a forward pass.
        """
        scored = self.read + self.written * _DECODING[machine.kind]
        operations = self.parameters * (6 * self.trained + 2 * _SCORINGS * scored)
        idle = _PASS * (3 * self.steps + _SCORINGS * self.passes)
        return _START + idle + operations / (DEVICE_FLOPS[machine.kind] * workers)


def trials_within(hours: float, seconds: float, groups: int) -> int:
    """Return how many trials of ``seconds`` each end within ``hours`` on ``groups`` groups."""
    rounds = math.floor(hours * 3600 / seconds)
    return rounds * groups


def learning_rates(parameters: int) -> tuple[float, float]:
    """Return the interval of learning rates to search, by the model's size.

    What AdamW's users take for full fine-tuning lies in its lower half: a part of the model wants a
    higher rate than the whole.
    """
    if parameters < 5e7:
        return 1e-4, 3e-3
    return (1e-5, 1e-3) if parameters < 1e9 else (2e-6, 1e-4)
