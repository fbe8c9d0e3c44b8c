"""A quantised GGUF file becomes a plain model that can be trained: same weights, same tokenizer."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer

from hft_ray.config import Model
from hft_ray.data import locate
from hft_ray.training.models import find_model, load_tokenizer

gguf = pytest.importorskip("gguf")
Q8 = gguf.GGMLQuantizationType.Q8_0
NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
}


def gguf_name(name: str) -> str:
    for ours, theirs in NAMES.items():
        name = name.replace(ours, theirs)
    return name.replace("model.layers.", "blk.")


def permuted(weight: np.ndarray, heads: int) -> np.ndarray:
    """Return a query or key matrix with its rotary halves interleaved, as GGUF has it."""
    rows, columns = weight.shape
    return weight.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, -1)


@pytest.fixture(scope="module")
def demo_model():
    return locate("package:hft_ray/demo/model", "model.name")


@pytest.fixture(scope="module")
def quantised(demo_model, tmp_path_factory):
    """The demo model as a GGUF file of 8-bit blocks, and what its weights then are."""
    shape = json.loads((demo_model / "config.json").read_text())
    tokenizer = json.loads((demo_model / "tokenizer.json").read_text())
    path = tmp_path_factory.mktemp("gguf") / "demo.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    heads = shape["num_attention_heads"]
    writer.add_block_count(shape["num_hidden_layers"])
    writer.add_context_length(shape["max_position_embeddings"])
    writer.add_embedding_length(shape["hidden_size"])
    writer.add_feed_forward_length(shape["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(shape["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(shape["rms_norm_eps"])
    writer.add_rope_freq_base(shape["rope_parameters"]["rope_theta"])
    writer.add_rope_dimension_count(shape["head_dim"])
    writer.add_vocab_size(shape["vocab_size"])

    vocabulary = tokenizer["model"]["vocab"]
    special = {token["id"] for token in tokenizer["added_tokens"] if token["special"]}
    tokens = sorted(vocabulary, key=vocabulary.get)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types([3 if vocabulary[token] in special else 1 for token in tokens])
    writer.add_token_merges([" ".join(pair) for pair in tokenizer["model"]["merges"]])
    writer.add_eos_token_id(shape["eos_token_id"])
    writer.add_pad_token_id(shape["pad_token_id"])

    expected = {}
    for name, weight in load_file(demo_model / "model.safetensors").items():
        values = weight.float().numpy()
        rotary = name.endswith(("q_proj.weight", "k_proj.weight"))
        stored = permuted(values, heads) if rotary else values
        if values.ndim == 1:
            writer.add_tensor(gguf_name(name), stored)
            expected[name] = values
        else:
            blocks = gguf.quants.quantize(stored, Q8)
            writer.add_tensor(gguf_name(name), blocks, raw_dtype=Q8)
            # Blocks lie along rows, and rows are all that is permuted.
            expected[name] = gguf.quants.dequantize(gguf.quants.quantize(values, Q8), Q8)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path, expected


@pytest.fixture(scope="module")
def converted(quantised, tmp_path_factory):
    cache = tmp_path_factory.mktemp("cache")
    return find_model(Model(name=str(quantised[0])), cache), cache


def test_the_weights_are_those_of_the_file(quantised, converted):
    weights = load_file(f"{converted[0]}/model.safetensors")
    assert weights.keys() == quantised[1].keys()
    for name, expected in quantised[1].items():
        assert weights[name].dtype == torch.float32
        np.testing.assert_allclose(weights[name].numpy(), expected, rtol=0, atol=1e-6, err_msg=name)


def test_nothing_calls_the_model_quantised(converted):
    config = json.loads(Path(converted[0], "config.json").read_text())
    assert "quantization_config" not in config


def test_the_tokenizer_is_that_of_the_file(demo_model, converted):
    ours = load_tokenizer(Model(name=converted[0]), converted[0])
    theirs = AutoTokenizer.from_pretrained(demo_model)
    for text in ("The capital of France is Paris", "Au  79\nZürich"):
        ids = ours(text, add_special_tokens=False)["input_ids"]
        assert ids == theirs(text, add_special_tokens=False)["input_ids"]


def test_a_file_is_converted_once(quantised, converted, tmp_path):
    folder, cache = converted
    before = {path: path.stat().st_mtime_ns for path in cache.rglob("*")}
    copy = tmp_path / "elsewhere.gguf"
    copy.write_bytes(quantised[0].read_bytes())
    assert find_model(Model(name=str(copy)), cache) == folder
    unchanged = {path: path.stat().st_mtime_ns for path in before if path.suffix != ".lock"}
    assert unchanged == {path: time for path, time in before.items() if path in unchanged}
