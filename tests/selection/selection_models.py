"""Small random models of every supported architecture, and what their parameters are by hand.

An expectation maps a pattern to a category; ``#`` stands for a layer's index. Every parameter has
to match exactly one pattern.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM

SMALL: dict[str, Any] = {
    "vocab_size": 96,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
SMALL_GPT2 = {"vocab_size": 96, "n_embd": 32, "n_layer": 4, "n_head": 4, "n_positions": 64}
SMALL_OPT = {**SMALL, "ffn_dim": 48, "word_embed_proj_dim": 32}

EMBED = {"model.embed_tokens.weight": "embedding"}
HEAD = {"lm_head.weight": "head"}
FINAL_NORM = {"model.norm.weight": "norm"}
OUTSIDE = {**EMBED, **HEAD, **FINAL_NORM}
QKVO = {f"model.layers.#.self_attn.{each}_proj.weight": "attention" for each in "qkvo"}
MLP = {f"model.layers.#.mlp.{each}_proj.weight": "feed_forward" for each in ("gate", "up", "down")}
PRE_NORMS = {
    "model.layers.#.input_layernorm.weight": "norm",
    "model.layers.#.post_attention_layernorm.weight": "norm",
}
QK_NORMS = {f"model.layers.#.self_attn.{each}_norm.weight": "norm" for each in "qk"}
FOUR_NORMS = {
    **PRE_NORMS,
    "model.layers.#.pre_feedforward_layernorm.weight": "norm",
    "model.layers.#.post_feedforward_layernorm.weight": "norm",
}
EXPERTS = {
    "model.layers.#.mlp.gate.weight": "router",
    "model.layers.#.mlp.experts.gate_up_proj": "expert",
    "model.layers.#.mlp.experts.down_proj": "expert",
}
LLAMA = {**OUTSIDE, **QKVO, **MLP, **PRE_NORMS}


def with_bias(expected: Mapping[str, str]) -> dict[str, str]:
    biases = {re.sub(r"weight$", "bias", name): kind for name, kind in expected.items()}
    return {**expected, **biases}


GPT2 = {
    "transformer.wte.weight": "embedding",
    "transformer.wpe.weight": "embedding",
    **with_bias(
        {
            "transformer.h.#.ln_1.weight": "norm",
            "transformer.h.#.attn.c_attn.weight": "attention",
            "transformer.h.#.attn.c_proj.weight": "attention",
            "transformer.h.#.ln_2.weight": "norm",
            "transformer.h.#.mlp.c_fc.weight": "feed_forward",
            "transformer.h.#.mlp.c_proj.weight": "feed_forward",
            "transformer.ln_f.weight": "norm",
        }
    ),
}
GPT_NEOX = {
    "gpt_neox.embed_in.weight": "embedding",
    "lm_head.weight": "head",
    **with_bias(
        {
            "gpt_neox.layers.#.input_layernorm.weight": "norm",
            "gpt_neox.layers.#.post_attention_layernorm.weight": "norm",
            "gpt_neox.layers.#.attention.query_key_value.weight": "attention",
            "gpt_neox.layers.#.attention.dense.weight": "attention",
            "gpt_neox.layers.#.mlp.dense_h_to_4h.weight": "feed_forward",
            "gpt_neox.layers.#.mlp.dense_4h_to_h.weight": "feed_forward",
            "gpt_neox.final_layer_norm.weight": "norm",
        }
    ),
}
OPT = {
    "model.decoder.embed_tokens.weight": "embedding",
    "model.decoder.embed_positions.weight": "embedding",
    **with_bias(
        {
            "model.decoder.layers.#.self_attn.q_proj.weight": "attention",
            "model.decoder.layers.#.self_attn.k_proj.weight": "attention",
            "model.decoder.layers.#.self_attn.v_proj.weight": "attention",
            "model.decoder.layers.#.self_attn.out_proj.weight": "attention",
            "model.decoder.layers.#.self_attn_layer_norm.weight": "norm",
            "model.decoder.layers.#.fc1.weight": "feed_forward",
            "model.decoder.layers.#.fc2.weight": "feed_forward",
            "model.decoder.layers.#.final_layer_norm.weight": "norm",
            "model.decoder.final_layer_norm.weight": "norm",
        }
    ),
}
PHI3 = {
    **OUTSIDE,
    **PRE_NORMS,
    "model.layers.#.self_attn.qkv_proj.weight": "attention",
    "model.layers.#.self_attn.o_proj.weight": "attention",
    "model.layers.#.mlp.gate_up_proj.weight": "feed_forward",
    "model.layers.#.mlp.down_proj.weight": "feed_forward",
}


@dataclass(frozen=True)
class Architecture:
    """A model to build, the hand-written category of each parameter, and units per layer."""

    kind: str
    expected: Mapping[str, str]
    units_per_layer: int
    settings: Mapping[str, Any] = field(default_factory=lambda: SMALL)

    def build(self, device: str = "cpu", **changes: Any) -> nn.Module:
        torch.manual_seed(0)
        config = AutoConfig.for_model(self.kind, **{**self.settings, **changes})
        with torch.device(device):
            return AutoModelForCausalLM.from_config(config)


UNTIED = {**SMALL, "tie_word_embeddings": False}
TIED = {**SMALL, "tie_word_embeddings": True}


def without_head(expected: Mapping[str, str]) -> dict[str, str]:
    return {name: kind for name, kind in expected.items() if kind != "head"}


QWEN2 = {
    **LLAMA,
    **{f"model.layers.#.self_attn.{each}_proj.bias": "attention" for each in "qkv"},
}
SPARSE = {"num_local_experts": 4, "num_experts": 4, "moe_intermediate_size": 24}

ARCHITECTURES = {
    "llama": Architecture("llama", LLAMA, 9, UNTIED),
    "llama_tied": Architecture("llama", without_head(LLAMA), 9, TIED),
    "llama_biased": Architecture(
        "llama",
        {**with_bias({**QKVO, **MLP}), **OUTSIDE, **PRE_NORMS},
        9,
        {**UNTIED, "attention_bias": True, "mlp_bias": True},
    ),
    "mistral": Architecture("mistral", LLAMA, 9, UNTIED),
    "qwen2": Architecture("qwen2", QWEN2, 9, UNTIED),
    "qwen3": Architecture("qwen3", {**LLAMA, **QK_NORMS}, 11, {**UNTIED, "head_dim": 8}),
    "gemma2": Architecture(
        "gemma2", without_head({**LLAMA, **FOUR_NORMS}), 11, {**TIED, "head_dim": 8}
    ),
    "gemma3_text": Architecture(
        "gemma3_text",
        without_head({**LLAMA, **FOUR_NORMS, **QK_NORMS}),
        13,
        {**TIED, "head_dim": 8},
    ),
    "phi3": Architecture("phi3", PHI3, 6, UNTIED),
    "gpt2": Architecture("gpt2", GPT2, 6, SMALL_GPT2),
    "gpt_neox": Architecture("gpt_neox", GPT_NEOX, 6, UNTIED),
    "opt": Architecture("opt", OPT, 8, SMALL_OPT),
    "opt_projected": Architecture(
        "opt",
        {
            **OPT,
            "model.decoder.project_in.weight": "other",
            "model.decoder.project_out.weight": "other",
        },
        8,
        {**SMALL_OPT, "word_embed_proj_dim": 16},
    ),
    "olmo2": Architecture(
        "olmo2",
        {
            **OUTSIDE,
            **QKVO,
            **MLP,
            **QK_NORMS,
            "model.layers.#.post_attention_layernorm.weight": "norm",
            "model.layers.#.post_feedforward_layernorm.weight": "norm",
        },
        11,
        UNTIED,
    ),
    "mixtral": Architecture(
        "mixtral", {**OUTSIDE, **QKVO, **PRE_NORMS, **EXPERTS}, 9, {**UNTIED, **SPARSE}
    ),
    "qwen3_moe": Architecture(
        "qwen3_moe",
        {**OUTSIDE, **QKVO, **QK_NORMS, **PRE_NORMS, **EXPERTS},
        11,
        {**UNTIED, **SPARSE, "head_dim": 8},
    ),
}


def expected_category(expected: Mapping[str, str], parameter: str) -> str:
    """Return the category that the hand-written ``expected`` gives ``parameter``."""
    return expected[re.sub(r"\.\d+\.", ".#.", parameter, count=1)]
