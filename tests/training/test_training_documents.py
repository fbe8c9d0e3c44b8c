"""Documents of a packed pass are kept apart: loss and gradients are those of padded batches."""

from __future__ import annotations

import logging
from functools import lru_cache

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from hft_ray.compat.hf_attributes import attention_implementation
from hft_ray.config import Config
from hft_ray.data import IGNORED, collate, collate_pairs, concatenate, share_out
from hft_ray.ranks import Ranks
from hft_ray.training.documents import Documents
from hft_ray.training.loss import answer_logprobs, answer_loss
from hft_ray.training.models import recompute_activations

SHAPE = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}
GPT2 = {"vocab_size": 64, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}
WINDOW = {"sliding_window": 4}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
APART = {
    "llama": SHAPE,
    "mistral": SHAPE | WINDOW,
    "qwen2": SHAPE,
    "qwen3": SHAPE | {"head_dim": 8},
    "gemma": SHAPE | {"head_dim": 8},
    "gemma3_text": SHAPE | WINDOW | {"head_dim": 8},
    "phi": SHAPE,
    "phi3": SHAPE | {"pad_token_id": 0},
    "gpt2": GPT2,
    "gpt_neox": SHAPE,
    "opt": SHAPE | {"ffn_dim": 48, "word_embed_proj_dim": 32},
    "olmo2": SHAPE,
    "mixtral": SHAPE | {"num_local_experts": 2},
    "qwen3_moe": SHAPE | EXPERTS | {"head_dim": 8},
}
"""Families whose attention keeps documents apart."""
REFUSED = {
    "gemma2": (SHAPE | WINDOW | {"head_dim": 8}, "needs `softcap`"),
    "gpt_oss": (SHAPE | WINDOW | {"head_dim": 8, "num_local_experts": 4}, "needs `s_aux`"),
    "phimoe": (SHAPE | WINDOW | {"num_local_experts": 2}, "a window that only the mask holds"),
    "stablelm": (SHAPE, "keep them apart"),
    "falcon": (SHAPE | {"alibi": False}, "cannot be set"),
    "mamba": ({"hidden_size": 32, "num_hidden_layers": 2, "vocab_size": 64}, "keep them apart"),
}
"""Families whose attention does not, and why."""
LENGTHS = (23, 9, 5, 17, 12, 2, 3, 14)


def make_model(name, shape):
    config = transformers.AutoConfig.for_model(name, **shape)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = transformers.AutoModelForCausalLM.from_config(config)
        with torch.no_grad():
            for parameter in model.parameters():
                # Far from the small initial values, where attention hardly matters.
                parameter.add_(torch.randn_like(parameter) * 0.1)
    return model.eval()


def settled(model, attention="auto", packing=True):
    """What a run finds out of a model."""
    data = {"train": "d", "packing": packing}
    file = {"name": "n", "model": {"name": "m", "attention": attention}, "data": data}
    documents = Documents(model, Config.model_validate(file))
    documents.settle(Ranks())
    return documents


def make_item(length, seed=0):
    ids = np.random.default_rng([seed, length]).integers(2, 64, length)
    return {"input_ids": ids, "labels": np.where(np.arange(length) < length // 3, IGNORED, ids)}


def taken(model, losses):
    """Return the sum of losses, and the gradients of the parameters."""
    model.zero_grad()
    total = 0.0
    for loss in losses:
        found = loss()
        found.backward()
        total += found.item()
    return total, {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def assert_same(found, expected):
    assert found[0] == pytest.approx(expected[0], rel=1e-5)
    assert found[1].keys() == expected[1].keys()
    for name, gradient in expected[1].items():
        close = {"rtol": 1e-5, "atol": 1e-5 * max(float(gradient.abs().max()), 1.0)}
        torch.testing.assert_close(found[1][name], gradient, **close, msg=name)


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("name", APART)
def test_packed_passes_have_the_loss_and_gradients_of_padded_ones(name, ranks):
    model, items = make_model(name, APART[name]), [make_item(each) for each in LENGTHS]
    padded = taken(model, [lambda: answer_loss(model, collate(items, 0))])
    documents = settled(model)
    assert documents.packed
    shares = share_out(LENGTHS, ranks, 2, 2 * max(LENGTHS))
    passes = [[items[i] for i in each] for share in shares for each in share]
    assert len(passes) == 2  # of 8 examples, and twice the longest
    with documents.apart():
        batches = [concatenate(each) for each in passes]
        packed = taken(model, [lambda b=b: answer_loss(model, b) for b in batches])
    assert_same(packed, padded)


@pytest.mark.parametrize("name", ["llama", "qwen2", "gemma3_text", "gpt_neox", "mistral"])
def test_packed_pairs_have_the_likelihoods_and_gradients_of_padded_ones(name):
    model = make_model(name, APART[name])
    items = [make_item(each) for each in LENGTHS]
    pairs = list(zip(items[::2], items[1::2], strict=True))
    weights = torch.linspace(-1, 1, len(items))

    def loss(packed):
        logprobs, _ = answer_logprobs(model, collate_pairs(pairs, 0, packed), len(items))
        return (logprobs * weights).sum()

    padded = taken(model, [lambda: loss(packed=False)])
    with settled(model).apart():
        assert_same(taken(model, [lambda: loss(packed=True)]), padded)


def test_recomputed_activations_are_kept_apart():
    model, items = make_model("llama", SHAPE).train(), [make_item(each) for each in LENGTHS]
    documents = settled(model)
    with documents.apart():
        kept = taken(model, [lambda: answer_loss(model, concatenate(items))])
        recompute_activations(model)
        assert_same(taken(model, [lambda: answer_loss(model, concatenate(items))]), kept)


@lru_cache
def one_model():
    model = make_model("mistral", APART["mistral"])
    return model, settled(model)


def attention_of(lengths, at, seed):
    """The attention's outputs of one document among others, at the first layer."""
    (model, documents), found = one_model(), []
    items = [make_item(each, 0 if place == at else seed) for place, each in enumerate(lengths)]
    layer = model.model.layers[0].self_attn.o_proj
    handle = layer.register_forward_pre_hook(lambda _, inputs: found.append(inputs[0]))
    batch = concatenate(items)
    with torch.no_grad(), documents.apart():
        logprobs, _ = answer_logprobs(model, batch | {"documents": owners(lengths)}, len(lengths))
    handle.remove()
    start = sum(lengths[:at])
    return found[-1][0, start : start + lengths[at]], logprobs[at].item()


def owners(lengths):
    return torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths))[None]


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(2, 20), min_size=1, max_size=5), st.data())
def test_a_document_does_not_depend_on_its_neighbours(lengths, data):
    at = data.draw(st.integers(0, len(lengths) - 1))
    seeds = data.draw(st.tuples(st.integers(1, 99), st.integers(1, 99)))
    (here, loss), (there, again) = (attention_of(lengths, at, seed) for seed in seeds)
    # Of the same shape nothing is rounded otherwise.
    assert torch.equal(here, there)
    assert loss == again
    alone = attention_of([lengths[at]], 0, 0)[1]
    assert loss == pytest.approx(alone, rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("name", REFUSED)
def test_models_that_cannot_keep_documents_apart_are_padded(name, caplog):
    shape, why = REFUSED[name]
    model = make_model(name, shape)
    usual = attention_implementation(model)
    with caplog.at_level(logging.WARNING):
        documents = settled(model)
    assert not documents.packed
    (message,) = [each.getMessage() for each in caplog.records if each.name.startswith("hft_ray")]
    assert "m: batches are padded, since documents in one row would see each other" in message
    assert why in message
    with documents.apart():
        assert attention_implementation(model) == usual


def test_padding_that_was_asked_for_is_not_warned_of(caplog):
    assert not settled(make_model("llama", SHAPE), packing=False).packed
    assert not caplog.records


def test_eager_attention_is_padded(caplog):
    assert not settled(make_model("llama", SHAPE), attention="eager").packed
    assert "model.attention is eager" in caplog.text


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_models_keep_their_own_attention_and_mode(dtype):
    model = make_model("llama", SHAPE).to(dtype).train()
    assert settled(model).packed
    assert model.training
    assert attention_implementation(model) == "sdpa"
