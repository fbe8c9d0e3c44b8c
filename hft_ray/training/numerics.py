"""How numbers are held and batches divided, and DeepSpeed's configuration of it.

Does without DeepSpeed, so that a plan need not import it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from hft_ray.config import Training


@dataclass(frozen=True)
class Numerics:
    """How numbers are held: device and type of weights and activations."""

    device: torch.device
    dtype: torch.dtype

    @classmethod
    def of(cls, training: Training, device: torch.device) -> Numerics:
        """Return what ``training.precision`` means on ``device``."""
        bf16 = training.bf16(gpu=device.type == "cuda")
        return cls(device, torch.bfloat16 if bf16 else torch.float32)


def micro_batch_size(training: Training, ranks: int) -> int:
    """Return the sequences per forward pass of one rank; ``checks`` has seen that it divides."""
    return training.micro_batch_size or training.batch_size // ranks


def deepspeed_config(
    training: Training, numerics: Numerics, ranks: int, trained: int
) -> dict[str, Any]:
    """Return DeepSpeed's configuration for ``training`` of ``trained`` numbers."""
    micro = micro_batch_size(training, ranks)
    # DeepSpeed's own buffer for gradients on their way to other ranks has room for 5e8 numbers
    # whatever the model. What does not fit into it goes on its own.
    bucket = min(500_000_000, max(1, trained // 50))
    stage = training.stage(ranks)
    zero: dict[str, Any] = {"stage": stage, "reduce_bucket_size": bucket}
    if training.offload == "optimizer":
        zero["offload_optimizer"] = {"device": "cpu"}
    return {
        "train_batch_size": training.batch_size,
        "train_micro_batch_size_per_gpu": micro,
        "gradient_accumulation_steps": training.batch_size // (micro * ranks),
        "gradient_clipping": 0.0 if plain(training, numerics, ranks) else training.max_grad_norm,
        **_precision(training, numerics, stage),
        "zero_optimization": zero,
        # A torch.optim optimizer needs no compiled operator.
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
    }


def plain(training: Training, numerics: Numerics, ranks: int) -> bool:
    """Whether DeepSpeed leaves parameters and gradients to an optimizer over them, and its step."""
    lean = training.optimizer_states == "bf16"
    return training.stage(ranks) == 0 and (lean or numerics.dtype == torch.float32)


def _precision(training: Training, numerics: Numerics, stage: int) -> dict[str, Any]:
    bf16: dict[str, Any] = {"enabled": numerics.dtype == torch.bfloat16}
    if training.optimizer_states == "fp32":
        return {"bf16": bf16}
    if stage == 0:
        # DeepSpeed's bf16 without ZeRO always makes fp32 copies; without it the optimizer is ours
        # over the parameters themselves, whatever their type.
        return {"communication_data_type": "bf16"}
    return {"bf16": bf16 | {"bf16_master_weights_and_grads": True, "bf16_optimizer_states": True}}
