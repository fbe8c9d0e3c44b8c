"""Models of known shapes with random weights, and batches of random tokens."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import AutoModelForCausalLM, LlamaConfig, Qwen2Config

LLAMA_1B = {  # meta-llama/Llama-3.2-1B
    "vocab_size": 128256,
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "num_hidden_layers": 16,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "tie_word_embeddings": True,
    "max_position_embeddings": 131072,
}
QWEN_7B = {  # Qwen/Qwen2.5-7B
    "vocab_size": 152064,
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "tie_word_embeddings": False,
    "max_position_embeddings": 131072,
}
TINY = {
    "vocab_size": 512,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
}


def llama(tiny: bool) -> LlamaConfig:
    """Return the configuration of Llama-3.2-1B, or a tiny one."""
    return LlamaConfig(**(LLAMA_1B | TINY if tiny else LLAMA_1B))


def qwen(tiny: bool) -> Qwen2Config:
    """Return the configuration of Qwen2.5-7B, or a tiny one."""
    return Qwen2Config(**(QWEN_7B | TINY if tiny else QWEN_7B))


def build(shape: Any, device: torch.device, dtype: torch.dtype, seed: int = 0) -> nn.Module:
    """Return a model with random weights on the device."""
    torch.manual_seed(seed)
    with torch.device(device):
        model: nn.Module = AutoModelForCausalLM.from_config(shape, dtype=dtype)
    return model.train()


def flops_per_token(shape: Any, length: int) -> float:
    """Return the floating point operations of full fine-tuning for a token.

    6 for each parameter of a matrix that is multiplied (Kaplan et al., arXiv 2001.08361), and
    12 * layers * hidden * length / 2 for causal attention (PaLM, arXiv 2204.02311, appendix B).
    """
    hidden, layers = shape.hidden_size, shape.num_hidden_layers
    heads = shape.num_key_value_heads / shape.num_attention_heads
    block = 2 * hidden * hidden * (1 + heads) + 3 * hidden * shape.intermediate_size
    products = layers * block + hidden * shape.vocab_size
    return float(6 * products + 6 * layers * hidden * length)


PEAK_FLOPS = {"H100": 989e12, "H200": 989e12, "A100": 312e12}
"""Dense bf16 operations per second that the makers state."""


def peak_flops() -> float | None:
    """Return the device's peak; None where it is not known."""
    if not torch.cuda.is_available():
        return None
    name = torch.cuda.get_device_name()
    return next((peak for key, peak in PEAK_FLOPS.items() if key in name), None)
