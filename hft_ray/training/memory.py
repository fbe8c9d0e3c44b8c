"""What one worker holds in memory at the peak of an optimizer step; nothing is measured here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from hft_ray.config import Training
from hft_ray.training.numerics import micro_batch_size
from hft_ray.training.rehearsal import Step

_MOST_GATHERED = 1_000_000_000


@dataclass(frozen=True)
class MemoryPerWorker:
    """Bytes that one worker holds on its device at the peak of a step, by kind.

    Attributes:
        model: Weights.
        gradients: Gradients when all of them are there.
        optimizer: Adam's state.
        activations: What comes on top at the peak: what forward and backward pass hold, or what the
            optimizer's step holds for its time if that is more.
    """

    model: int
    gradients: int
    optimizer: int
    activations: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.model + self.gradients + self.optimizer + self.activations


def memory_per_worker(
    training: Training,
    parameters: int,
    trainable: int,
    bf16: bool,
    workers: int,
    rows: int,
    length: int,
    summed: bool,
    peak: Callable[[Step], int],
    averaged: int | None = None,
) -> MemoryPerWorker:
    """Estimate the memory of one worker.

    Weights, gradients and state follow "ZeRO: Memory Optimizations Toward Training Trillion
    Parameter Models" (arXiv 1910.02054, section 3), but that DeepSpeed divides the gradients in
    stage 1 too; of activations see :mod:`hft_ray.training.rehearsal`. Gradients and state exist for
    trained parameters alone; offloaded, the state lies in the host's memory instead. Scoring takes
    less, that of variants too: the model and a forward pass, under ZeRO-3 also an engine over what
    was trained last.

    Args:
        training: The section of FILE.
        parameters: Parameters of the model.
        trainable: Parameters that are trained.
        bf16: Whether weights and activations are held in 16 bit.
        workers: Workers of one group.
        rows: Sequences per forward pass; packed, a pass has room for as many of full length.
        length: Tokens per sequence.
        summed: Whether the loss is summed; see :class:`Step`.
        peak: Most bytes of activations and gradients at once in the passes of a step.
        averaged: Parameters that ``training.average`` holds, None for those that are trained.
    """
    stage, weight = training.stage(workers), 2 if bf16 else 4
    divided = -(-trainable // (workers if stage else 1))
    state, passing = _bytes_per_number(training, stage, bf16)
    if training.offload == "optimizer":
        state = passing = 0
    gradients = divided * weight
    in_passes = peak(_rank_step(training, bf16, workers, rows, length, summed))
    if stage < 3:
        in_passes -= gradients
    elif workers > 1:
        # DeepSpeed keeps so many gathered numbers by default (stage3_max_live_parameters).
        in_passes += min(parameters, _MOST_GATHERED) * weight
    # The penalty towards the base holds the base's values of what is trained.
    base = trainable * weight if training.l2_to_base else 0
    held = {"none": 0, "ema": 4, "sfa": weight}[training.average]
    average = held * -(-(trainable if averaged is None else averaged) // workers)
    return MemoryPerWorker(
        model=parameters * weight // (workers if stage == 3 else 1) + base + average,
        gradients=gradients,
        optimizer=divided * state,
        activations=max(in_passes, divided * passing),
    )


def _rank_step(
    training: Training, bf16: bool, workers: int, rows: int, length: int, summed: bool
) -> Step:
    """Return a worker's part of a step; arguments as for :func:`memory_per_worker`."""
    stage = training.stage(workers)
    # ZeRO-3 has set room for its gradients aside before there are any.
    kept = 0 if stage == 3 else 1 / (workers if stage else 1)
    return Step(
        torch.bfloat16 if bf16 else torch.float32,
        rows,
        length,
        passes=training.batch_size // (micro_batch_size(training, workers) * workers),
        share=kept,
        recompute=training.gradient_checkpointing,
        summed=summed,
    )


def _bytes_per_number(training: Training, stage: int, bf16: bool) -> tuple[int, int]:
    """Return bytes per number that a worker steps on: of state, and for the time of a step.

    As measured of DeepSpeed 0.19 by ``tests/training/test_training_peak.py``.
    """
    weight = 2 if bf16 else 4
    if training.optimizer_states == "bf16":
        # Two moments and Kahan's compensation; ZeRO steps on a copy, with flat gradients.
        return (8, weight) if stage else (6, 0)
    # Two moments, and an fp32 copy of what is trained; ZeRO 1 to 3 keep one of fp32 too.
    state = 8 + (4 if bf16 or stage else 0)
    if not stage:
        return state, 4 if bf16 else 0  # gradients in fp32
    # Flat gradients, from which those in fp32 are made.
    return state, weight + (4 if bf16 else 0)
