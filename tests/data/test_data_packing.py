"""Packed documents do not see each other: the loss equals that of the single documents."""

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from hft_ray.config import ConfigError
from hft_ray.data import IGNORED, collate, require_isolation
from hft_ray.data.dataset import assemble
from hft_ray.data.encode import Encoded
from hft_ray.data.packing import pack

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
MODELS = {
    "llama": SHAPE,
    "mistral": {**SHAPE, "sliding_window": 4},
    "qwen2": SHAPE,
    "qwen3": {**SHAPE, "head_dim": 8},
    "gemma2": {**SHAPE, "head_dim": 8, "sliding_window": 4},
    "gemma3_text": {**SHAPE, "head_dim": 8, "sliding_window": 4},
    "phi3": {**SHAPE, "pad_token_id": 0},
    "gpt2": GPT2,
    "gpt_neox": SHAPE,
    "opt": {**SHAPE, "ffn_dim": 48, "word_embed_proj_dim": 32},
    "olmo2": SHAPE,
    "mixtral": {**SHAPE, "num_local_experts": 2},
    "qwen3_moe": {
        **SHAPE,
        "head_dim": 8,
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 16,
    },
}


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(1, 20), min_size=1, max_size=60))
def test_pack_places_every_item_once_and_wastes_little(lengths):
    sequences = pack(lengths, 20)
    assert sorted(i for sequence in sequences for i in sequence) == list(range(len(lengths)))
    loads = [sum(lengths[i] for i in sequence) for sequence in sequences]
    assert max(loads) <= 20
    # Best fit never opens a sequence for what another has room for: no two are half empty.
    assert sum(load <= 10 for load in loads) <= 1
    assert sequences == pack(lengths, 20)


def test_pack_by_hand():
    # 7 | 6 | 4 into the 6's room of 4 | 3 into the 7's room of 3 | 2
    assert pack([4, 7, 3, 2, 6], 10) == [[1, 2], [4, 0], [3]]


def make_examples():
    """Return five examples of 5 to 23 tokens, the first third of each untrained."""
    draw = np.random.default_rng(0)
    examples = []
    for length in (23, 9, 5, 17, 12):
        ids = draw.integers(2, 64, length).tolist()
        labels = [IGNORED if place < length // 3 else ids[place] for place in range(length)]
        examples.append(Encoded(ids, labels, cut=False))
    return examples


def make_model(name, attention):
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(name, **MODELS[name])
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation=attention)
    with torch.no_grad():
        for parameter in model.parameters():
            # Far from the small initial values, where attention hardly matters.
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return model.eval()


def loss_sum(model, batch):
    labels = batch.pop("labels")
    with torch.no_grad():
        logits = model(**batch, use_cache=False).logits
    return torch.nn.functional.cross_entropy(
        logits[:, :-1].flatten(0, 1).double(),
        labels[:, 1:].flatten(),
        ignore_index=IGNORED,
        reduction="sum",
    ).item()


# OPT makes an attention mask of its own; Gemma 2 has eager attention only.
ISOLATING = [
    (name, attention)
    for name in MODELS
    for attention in ("sdpa", "eager")
    if name != "opt" and (name, attention) != ("gemma2", "sdpa")
]


@pytest.mark.parametrize(("name", "attention"), ISOLATING)
def test_packed_loss_is_the_sum_of_the_single_losses(name, attention):
    model = make_model(name, attention)
    single, packed = (assemble(make_examples(), 32, packing) for packing in (False, True))
    assert len(packed) < len(single)
    expected = sum(loss_sum(model, collate([single[i]], 0)) for i in range(len(single)))
    padded = loss_sum(model, collate([single[i] for i in range(len(single))], 0))
    assert padded == pytest.approx(expected, rel=1e-5)
    batch = collate([packed[i] for i in range(len(packed))], 0)
    # Rows of different length, so there is padding, beside several documents in a row.
    assert len({len(packed[i]["input_ids"]) for i in range(len(packed))}) > 1
    assert loss_sum(model, dict(batch)) == pytest.approx(expected, rel=1e-5)
    # The test can fail: without the restarting positions the documents see each other.
    width = batch["input_ids"].shape[1]
    leaking = batch | {"position_ids": torch.arange(width).expand_as(batch["input_ids"])}
    assert loss_sum(model, leaking) != pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize(("name", "attention"), ISOLATING)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_isolation_is_recognised(name, attention, dtype):
    model = make_model(name, attention).to(dtype).train()
    require_isolation(model, rows=3)
    assert model.training


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_models_that_mix_documents_are_refused(dtype):
    model = make_model("opt", "sdpa").to(dtype)
    with pytest.raises(ConfigError, match=r"data\.packing: .*see each other: opt with sdpa"):
        require_isolation(model, rows=3)


def test_freshly_initialised_models_that_mix_documents_are_refused():
    config = transformers.AutoConfig.for_model("opt", **MODELS["opt"])
    with pytest.raises(ConfigError, match="see each other"):
        require_isolation(transformers.AutoModelForCausalLM.from_config(config), rows=1)
