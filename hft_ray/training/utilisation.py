"""How much of a device's peak a run uses: model-FLOPs utilisation (PaLM, arXiv 2204.02311, app. B).

Counted is what the model's mathematics asks for: the products with weight matrices, of tokens that
are not padding. Attention scores, recomputed activations and the optimizer are left out.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
from torch import nn

BF16_PEAK = {
    "B200": 2250e12,
    "H200": 989e12,
    "H100 NVL": 835e12,
    "H100 PCIe": 756e12,
    "H100": 989e12,
    "GH200": 989e12,
    "H800": 989e12,
    "A100": 312e12,
    "A800": 312e12,
    "L40S": 362e12,
    "L4": 121e12,
    "A10": 125e12,
    "RTX 4090": 165e12,
    "RTX 5090": 209e12,
}
"""Part of a device's name -> dense bf16 operations per second, from NVIDIA's data sheets."""


def peak_flops(device: torch.device, dtype: torch.dtype) -> float | None:
    """Return the peak of a device in bf16, None where it is not known or the type is another."""
    if device.type != "cuda" or dtype != torch.bfloat16:
        return None
    words = torch.cuda.get_device_name(device).replace("-", " ").split()
    for name, peak in BF16_PEAK.items():
        if set(name.split()) <= set(words):
            return peak
    return None


def flops_per_token(model: nn.Module, trained: Collection[str]) -> float:
    """Return the floating point operations per token of a training step.

    For each number of a weight matrix 2 in the forward pass, 2 for the gradient of the activations
    unless nothing at or below it is trained, and 2 for its own gradient if it is trained.

    Args:
        model: The model; its parameters are in the order in which the forward pass meets them.
        trained: Names of the trained parameters.

    Returns:
        The number; 0 for a mixture of experts, which uses a part of its weights for each token.
    """
    config: Any = getattr(model, "config", None)
    if getattr(config, "num_experts_per_tok", None):
        return 0.0
    tables = {id(each.weight) for each in model.modules() if isinstance(each, nn.Embedding)}
    head = getattr(getattr(model, "get_output_embeddings", lambda: None)(), "weight", None)
    # Tied, it is looked up first and multiplied with last.
    tables -= {id(head)}
    parameters = sorted(model.named_parameters(), key=lambda item: item[1] is head)
    found, below = 0, False
    for name, parameter in parameters:
        below = below or name in trained
        if len(getattr(parameter, "ds_shape", parameter.shape)) > 1 and id(parameter) not in tables:
            numbers = getattr(parameter, "ds_numel", parameter.numel())
            found += numbers * (2 + 2 * below + 2 * (name in trained))
    return float(found)
