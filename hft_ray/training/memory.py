"""What one worker holds in memory, by arithmetic; nothing is measured here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hft_ray.config import Training


@dataclass(frozen=True)
class MemoryPerWorker:
    """Bytes that one worker holds on its device at the peak of a step, by kind."""

    model: int
    gradients: int
    optimizer: int
    activations: int


def memory_per_worker(
    training: Training,
    shape: Any,
    parameters: int,
    trainable: int,
    bf16: bool,
    workers: int,
    micro_batch: int,
    length: int,
) -> MemoryPerWorker:
    """Estimate the memory of one worker.

    The first three follow "ZeRO: Memory Optimizations Toward Training Trillion Parameter Models"
    (arXiv 1910.02054, section 3): stage 1 divides the optimizer's state over the workers, stage 2
    the gradients too, stage 3 the weights too. Gradients and optimizer state exist for trained
    parameters alone; offloaded, the state lies in the host's memory instead. Activations follow
    "Reducing Activation Recomputation in Large Transformer Models" (arXiv 2205.05198, table 2)
    without the quadratic term, which SDPA does not hold: 34 bytes per token, hidden unit and layer
    in 16 bit, 2 with recomputation; plus the logits. Scoring takes less, that of variants too: the
    model and a forward pass, under ZeRO-3 also an engine over what was trained last.

    Args:
        training: The section of FILE.
        shape: The model's transformers configuration.
        parameters: Parameters of the model.
        trainable: Parameters that are trained.
        bf16: Whether weights and activations are held in 16 bit.
        workers: Workers of one group.
        micro_batch: Sequences per forward pass.
        length: Tokens per sequence.
    """
    stage, weight = training.stage(workers), 2 if bf16 else 4
    offloaded = training.offload == "optimizer"
    state = _state_bytes(training, stage, bf16)
    tokens = micro_batch * length
    per_unit = (2 if training.gradient_checkpointing else 34) * weight // 2
    hidden, layers = int(shape.hidden_size), int(shape.num_hidden_layers)
    logits = tokens * int(shape.vocab_size) * (weight + 4)
    # The penalty towards the base holds the base's values of what is trained.
    base = trainable * weight if training.l2_to_base else 0
    return MemoryPerWorker(
        model=parameters * weight // (workers if stage == 3 else 1) + base,
        gradients=trainable * weight // (workers if stage >= 2 else 1),
        optimizer=0 if offloaded else trainable * state // (workers if stage >= 1 else 1),
        activations=tokens * hidden * layers * per_unit + logits,
    )


def _state_bytes(training: Training, stage: int, bf16: bool) -> int:
    """Return the bytes of optimizer state per trained number, over all workers that divide it."""
    if training.optimizer_states == "bf16":
        # Two moments and Kahan's compensation; ZeRO steps on a copy.
        return 6 + (2 if stage else 0)
    # Two moments, and an fp32 copy of what is trained; ZeRO 1 to 3 keep one of fp32 too.
    return 8 + (4 if bf16 or stage else 0)
