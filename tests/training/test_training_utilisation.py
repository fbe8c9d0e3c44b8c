"""Floating point operations per token, and the peaks of devices."""

from unittest import mock

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, MixtralConfig, MixtralForCausalLM

from hft_ray.training.resource_metrics import Throughput
from hft_ray.training.utilisation import flops_per_token, peak_flops

LAYER = 4 * 8 * 8 + 3 * 8 * 12
HEAD = 20 * 8


def llama(**changes):
    config = LlamaConfig(
        vocab_size=20,
        hidden_size=8,
        intermediate_size=12,
        num_hidden_layers=3,
        num_attention_heads=2,
        num_key_value_heads=2,
        **changes,
    )
    with torch.device("meta"):
        return LlamaForCausalLM(config)


def names(model, *parts):
    return {name for name, _ in model.named_parameters() if any(part in name for part in parts)}


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        # All, without the table of the embeddings: 2 forward, 2 and 2 backward.
        ([""], 6 * (3 * LAYER + HEAD)),
        # The last layer: those below have no backward pass.
        (["layers.2"], 2 * 2 * LAYER + 6 * LAYER + 4 * HEAD),
        (["lm_head"], 2 * 3 * LAYER + 6 * HEAD),
        (["embed_tokens"], 4 * (3 * LAYER + HEAD)),
        (["layers.0.self_attn.q_proj"], 4 * (3 * LAYER + HEAD) + 2 * 8 * 8),
        ([], 2 * (3 * LAYER + HEAD)),
    ],
)
def test_frozen_parts_have_no_gradient_of_their_own(parts, expected):
    model = llama()
    assert flops_per_token(model, names(model, *parts)) == expected


def test_a_tied_head_is_multiplied_with_last():
    model = llama(tie_word_embeddings=True)
    assert flops_per_token(model, names(model, "")) == 6 * (3 * LAYER + HEAD)
    expected = 2 * 2 * LAYER + 6 * LAYER + 4 * HEAD
    assert flops_per_token(model, names(model, "layers.2")) == expected


def test_a_mixture_of_experts_is_not_counted():
    config = MixtralConfig(
        vocab_size=20,
        hidden_size=8,
        intermediate_size=12,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        num_local_experts=2,
    )
    with torch.device("meta"):
        model = MixtralForCausalLM(config)
    assert flops_per_token(model, names(model, "")) == 0


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA H100 NVL", 835e12),
        ("NVIDIA H200", 989e12),
        ("NVIDIA GH200 480GB", 989e12),
        ("NVIDIA A100-SXM4-80GB", 312e12),
        ("NVIDIA L40S", 362e12),
        ("NVIDIA L4", 121e12),
        ("NVIDIA GeForce RTX 4090", 165e12),
        ("NVIDIA A10G", None),
        ("Tesla V100-SXM2-16GB", None),
    ],
)
def test_peaks_of_devices_by_name(name, expected):
    with mock.patch("torch.cuda.get_device_name", return_value=name):
        assert peak_flops(torch.device("cuda", 0), torch.bfloat16) == expected
        assert peak_flops(torch.device("cuda", 0), torch.float32) is None
    assert peak_flops(torch.device("cpu"), torch.bfloat16) is None


def test_utilisation_is_the_share_of_the_peak():
    with mock.patch("time.monotonic", side_effect=[10.0, 12.0, 12.0]):
        window = Throughput(peak=100.0)
        window.add(tokens=60, trained=20, flops=90.0)
        window.add(tokens=40, trained=20, flops=10.0)
        found = window.metrics()
    assert found == {
        "train/tokens_per_second": 50,
        "train/trained_tokens_per_second": 20,
        "train/mfu": 0.5,
    }
    unknown = Throughput()
    unknown.add(tokens=60, trained=20, flops=90.0)
    assert "train/mfu" not in unknown.metrics()
