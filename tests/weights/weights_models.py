"""Tiny random models, and the same models after a make-believe tuning of every parameter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
)


def make(family: str, *, dtype: torch.dtype = torch.float32, **settings: Any) -> Any:
    """Return a random model of 4 layers; ``settings`` go into its configuration."""
    torch.manual_seed(11)
    llama = {
        "vocab_size": 96,
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    }
    if family == "llama":
        model: Any = LlamaForCausalLM(LlamaConfig(**{**llama, **settings}))
    elif family == "mixtral":
        sparse = {"num_local_experts": 3, "num_experts_per_tok": 2}
        model = MixtralForCausalLM(MixtralConfig(**{**llama, **sparse, **settings}))
    else:
        small = {"vocab_size": 96, "n_positions": 32, "n_embd": 16, "n_layer": 4, "n_head": 4}
        model = GPT2LMHeadModel(GPT2Config(**{**small, **settings}))
    return model.to(dtype)


def tune(model: Any, only: tuple[str, ...] | None = None) -> Any:
    """Change all parameters, or those with one of ``only`` in their name."""
    generator = torch.Generator().manual_seed(12)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator) * 0.1 + 0.05
            if only is None or any(each in name for each in only):
                parameter.add_(noise.to(parameter.dtype))
    return model


def load(folder: Path | str) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Load a directory; return its parameters, and what was missing or unexpected."""
    model, info = AutoModelForCausalLM.from_pretrained(
        folder, dtype="auto", output_loading_info=True, local_files_only=True
    )
    return {name: each.detach() for name, each in model.named_parameters()}, info


def bits(tensor: torch.Tensor) -> bytes:
    """Return the bytes of a tensor."""
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
