"""The catalogue against hand-written expectations, and what it refuses."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from selection_models import ARCHITECTURES, SMALL, TIED, UNTIED, expected_category
from torch import nn
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

from hft_ray.config import ConfigError
from hft_ray.selection import CatalogError, build_catalog

ALL = pytest.mark.parametrize("name", ARCHITECTURES)


@ALL
def test_every_parameter_is_in_exactly_one_unit_of_the_expected_category(name: str):
    architecture = ARCHITECTURES[name]
    model = architecture.build()
    catalog = build_catalog(model)
    sizes = {parameter: each.numel() for parameter, each in model.named_parameters()}
    assert sorted(p for unit in catalog.units for p in unit.parameters) == sorted(sizes)
    for unit in catalog.units:
        assert unit.size == sum(sizes[parameter] for parameter in unit.parameters)
        for parameter in unit.parameters:
            assert expected_category(architecture.expected, parameter) == unit.category, parameter
    assert catalog.parameters == sum(sizes.values())
    assert len({unit.name for unit in catalog.units}) == len(catalog.units)


@ALL
def test_layers_and_units_per_layer(name: str):
    architecture = ARCHITECTURES[name]
    catalog = build_catalog(architecture.build())
    assert catalog.layers == 4
    for layer in range(4):
        inside = [unit for unit in catalog.block if unit.layer == layer]
        assert len(inside) == architecture.units_per_layer
        assert all(f".{layer}." in unit.name for unit in inside)
    assert catalog.matrices == 4 * architecture.units_per_layer
    assert catalog.block_parameters + sum(u.size for u in catalog.outside) == catalog.parameters


@ALL
def test_depths_rise_from_the_first_layer_to_the_last(name: str):
    catalog = build_catalog(ARCHITECTURES[name].build())
    depths = catalog.depths
    assert len(depths) == sum(len(unit.parameters) for unit in catalog.units)
    for unit in catalog.block:
        assert {depths[each] for each in unit.parameters} == {unit.layer / 3}
    for unit in catalog.outside:
        expected = 0.0 if unit.category == "embedding" else 1.0
        assert {depths[each] for each in unit.parameters} == {expected}


@ALL
def test_meta_device_gives_the_same_catalogue(name: str):
    architecture = ARCHITECTURES[name]
    assert build_catalog(architecture.build("meta")) == build_catalog(architecture.build())


def test_unit_is_named_by_its_module_and_holds_its_bias():
    catalog = build_catalog(ARCHITECTURES["qwen2"].build())
    unit = next(u for u in catalog.units if u.name == "model.layers.1.self_attn.k_proj")
    assert unit.parameters == (
        "model.layers.1.self_attn.k_proj.weight",
        "model.layers.1.self_attn.k_proj.bias",
    )
    assert (unit.category, unit.layer, unit.size) == ("attention", 1, 32 * 16 + 16)


def test_each_tensor_of_experts_is_one_unit():
    catalog = build_catalog(ARCHITECTURES["mixtral"].build())
    experts = [u for u in catalog.units if u.category == "expert" and u.layer == 0]
    assert [u.name for u in experts] == [
        "model.layers.0.mlp.experts.gate_up_proj",
        "model.layers.0.mlp.experts.down_proj",
    ]
    assert [u.size for u in experts] == [4 * 96 * 32, 4 * 32 * 48]


@pytest.mark.parametrize("kind", ["llama", "qwen2", "gemma2", "mixtral"])
def test_tied_weights_are_one_embedding(kind: str):
    tied = build_catalog(ARCHITECTURES[kind].build(tie_word_embeddings=True))
    untied = build_catalog(ARCHITECTURES[kind].build(tie_word_embeddings=False))
    assert [u.category for u in tied.outside].count("embedding") == 1
    assert "head" not in [u.category for u in tied.outside]
    assert [u.category for u in untied.outside].count("head") == 1
    assert untied.parameters - tied.parameters == 96 * 32
    assert untied.block == tied.block


def test_a_tied_head_with_a_bias_of_its_own():
    catalog = build_catalog(ARCHITECTURES["llama"].build())
    config = AutoConfig.for_model("phi", **TIED)
    biased = build_catalog(AutoModelForCausalLM.from_config(config))
    head = next(u for u in biased.units if u.category == "head")
    assert (head.parameters, head.size) == (("lm_head.bias",), 96)
    assert catalog.layers == biased.layers


def test_a_model_without_head():
    model = AutoModel.from_config(AutoConfig.for_model("llama", **UNTIED))
    assert [(u.name, u.category) for u in build_catalog(model).outside] == [
        ("embed_tokens", "embedding"),
        ("norm", "norm"),
    ]


def test_shared_experts_and_layers_without_experts():
    settings = {**UNTIED, "num_experts": 4, "mlp_only_layers": [0, 2]}
    settings |= {"moe_intermediate_size": 24, "shared_expert_intermediate_size": 24}
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model("qwen2_moe", **settings))
    kinds = {u.name.removeprefix("model.layers."): u.category for u in build_catalog(model).block}
    assert kinds["0.mlp.gate_proj"] == "feed_forward"
    assert kinds["1.mlp.gate"] == kinds["1.mlp.shared_expert_gate"] == "router"
    assert kinds["1.mlp.shared_expert.up_proj"] == "feed_forward"
    assert kinds["1.mlp.experts.down_proj"] == "expert"


def test_a_norm_over_heads_is_a_norm():
    config = AutoConfig.for_model("cohere", **{**SMALL, "use_qk_norm": True})
    model = AutoModelForCausalLM.from_config(config)
    assert model.get_parameter("model.layers.0.self_attn.q_norm.weight").dim() == 2
    norms = [u for u in build_catalog(model).block if u.category == "norm" and u.layer == 0]
    assert len(norms) == 3


class _Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner, self.out = nn.Linear(8, 24), nn.Linear(8, 8)


class _Expert(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(8, 16, bias=False), nn.Linear(16, 8, bias=False)


class _Layer(nn.Module):
    def __init__(self, router: nn.Module | None) -> None:
        super().__init__()
        self.mixing, self.scale = _Attention(), nn.LayerNorm(8)
        self.moe = nn.Module()
        self.moe.experts = nn.ModuleList(_Expert() for _ in range(3))
        if router is not None:
            self.moe.router = router


def _own_model(router: nn.Module | None) -> nn.Module:
    model = nn.Module()
    model.tokens = nn.Embedding(11, 8)
    model.blocks = nn.ModuleList(_Layer(router) for _ in range(2))
    return model


def test_a_list_of_experts_and_its_router_in_a_model_of_no_family():
    units = {u.name: u.category for u in build_catalog(_own_model(nn.Linear(8, 3))).units}
    assert units["blocks.1.moe.experts.2.up"] == "expert"
    assert units["blocks.0.moe.router"] == "router"
    assert units["blocks.0.mixing.inner"] == "attention"
    assert units["tokens"] == "embedding"


def test_a_list_of_like_modules_without_a_router_is_feed_forward():
    units = {u.name: u.category for u in build_catalog(_own_model(None)).units}
    assert units["blocks.1.moe.experts.2.up"] == "feed_forward"


def _mamba() -> nn.Module:
    config = AutoConfig.for_model("mamba", vocab_size=96, hidden_size=32, num_hidden_layers=2)
    return AutoModelForCausalLM.from_config(config)


def test_mamba_is_refused_with_the_names():
    with pytest.raises(CatalogError) as refused:
        build_catalog(_mamba())
    assert set(refused.value.names) == {
        f"backbone.layers.{layer}.mixer.{each}"
        for layer in range(2)
        for each in ("A_log", "D", "conv1d.weight", "conv1d.bias")
    }
    assert "backbone.layers.*.mixer.A_log" in str(refused.value)
    assert isinstance(refused.value, ConfigError)


def test_experts_without_a_router_are_refused():
    model = ARCHITECTURES["mixtral"].build()
    for layer in model.model.layers:
        del layer.mlp.gate
    with pytest.raises(CatalogError, match=r"experts\.gate_up_proj") as refused:
        build_catalog(model)
    assert len(refused.value.names) == 8


def test_an_unknown_parameter_in_a_known_model_is_refused():
    model = ARCHITECTURES["llama"].build()
    model.model.layers[2].mlp.temperature = nn.Parameter(torch.zeros(1))
    with pytest.raises(CatalogError) as refused:
        build_catalog(model)
    assert refused.value.names == ("model.layers.2.mlp.temperature",)


def test_a_second_stack_is_refused():
    model = ARCHITECTURES["llama"].build()
    model.tower = nn.ModuleList([nn.Linear(4, 4)])
    with pytest.raises(CatalogError) as refused:
        build_catalog(model)
    assert refused.value.names == ("tower.0.weight", "tower.0.bias")


def test_no_layers_and_no_attention_are_refused():
    with pytest.raises(CatalogError, match="no list of layers"):
        build_catalog(nn.Sequential(nn.Embedding(4, 4), nn.Linear(4, 4)))
    mixers = nn.Module()
    mixers.layers = nn.ModuleList(nn.Sequential(nn.Linear(4, 4)) for _ in range(2))
    with pytest.raises(CatalogError, match="no attention"):
        build_catalog(mixers)


def test_zero_3_partitioned_parameters_give_the_same_catalogue():
    # A process of its own: DeepSpeed's partitioning needs a process group and patches modules.
    script = textwrap.dedent("""
        import os, socket, sys
        sys.path.insert(0, sys.argv[1])
        from selection_models import ARCHITECTURES
        import deepspeed
        from hft_ray.selection import build_catalog
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        os.environ |= {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1",
                       "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        deepspeed.init_distributed("gloo", auto_mpi_discovery=False)
        for name in ("llama_tied", "gpt2", "mixtral"):
            model = ARCHITECTURES[name].build()
            whole = build_catalog(model)
            deepspeed.zero.Init(module=model, config_dict_or_path={
                "train_batch_size": 1, "zero_optimization": {"stage": 3}})
            assert all(p.numel() == 0 for p in model.parameters())
            assert build_catalog(model) == whole, name
        print("same")
    """)
    here = str(Path(__file__).parent)
    done = subprocess.run(
        [sys.executable, "-c", script, here], capture_output=True, text=True, timeout=120
    )
    assert done.stdout.strip().endswith("same"), done.stderr[-3000:]
