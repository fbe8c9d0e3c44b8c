"""transformers keeps what ``hft_ray/compat/hf_*.py`` rely on."""

from __future__ import annotations

import pytest
import torch
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
)

from hft_ray.compat.hf_attributes import (
    attention_implementation,
    ignored_on_load,
    recorded_outputs,
    ties_weights,
)
from hft_ray.compat.hf_loading import KeyRules

VERSIONS = "hft_ray/compat/hf_*.py hold for transformers 5.23"
SMALL = {"vocab_size": 16, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}


@pytest.fixture(scope="module")
def llama():
    with torch.device("meta"):
        return LlamaForCausalLM(LlamaConfig(**SMALL, intermediate_size=8))


def test_a_model_says_that_it_can_tie_weights(llama):
    assert ties_weights(llama), VERSIONS
    assert not ties_weights(torch.nn.Linear(2, 2))


def test_a_model_says_which_of_its_modules_attend(llama):
    kinds = [key for module in llama.modules() for key in recorded_outputs(module)]
    assert "attentions" in kinds, VERSIONS
    assert recorded_outputs(torch.nn.Linear(2, 2)) == {}


def test_a_model_says_which_attention_it_uses(llama):
    llama.set_attn_implementation("eager")
    assert attention_implementation(llama) == "eager", VERSIONS


def test_a_model_says_which_keys_of_files_it_skips():
    with torch.device("meta"):
        model = MixtralForCausalLM(MixtralConfig(**SMALL, intermediate_size=8))
    # Some class of the library has such patterns, and the name is an attribute of all.
    assert hasattr(model, "_keys_to_ignore_on_load_unexpected"), VERSIONS
    assert ignored_on_load(torch.nn.Linear(2, 2)) == ()


def test_a_key_without_the_prefix_of_the_base_model_is_renamed():
    with torch.device("meta"):
        model = GPT2LMHeadModel(GPT2Config(vocab_size=16, n_embd=8, n_layer=1, n_head=2))
    name, _ = KeyRules(model).converted("h.0.ln_1.weight", model.state_dict())
    assert name == "transformer.h.0.ln_1.weight", VERSIONS


def test_an_expert_of_a_file_is_a_part_of_a_parameter():
    with torch.device("meta"):
        model = MixtralForCausalLM(MixtralConfig(**SMALL, intermediate_size=8))
    rules, key = KeyRules(model), "model.layers.0.block_sparse_moe.experts.1.w2.weight"
    name, pattern = rules.converted(key, model.state_dict())
    assert name in model.state_dict(), VERSIONS
    assert pattern is not None, VERSIONS
    assert rules.renamed(key, model.state_dict()).endswith("experts.1.w2.weight"), VERSIONS
