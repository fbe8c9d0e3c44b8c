"""Interpolation: its arithmetic, its ends, and models that do not match."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM
from weights_models import bits, load, make, tune

from hft_ray.config import ConfigError
from hft_ray.selection import build_catalog
from hft_ray.weights import average

VARIANTS = ["llama", "tied", "bf16", "gpt2", "mixtral"]


@pytest.mark.parametrize("variant", VARIANTS)
def test_parameters_lie_on_the_line_between_base_and_tuned(variant, pairs, command, tmp_path):
    tuned, base = pairs(variant)
    code, done, _ = command(
        "average", tuned, "--base", base, "--alpha", 0.3, "--out", tmp_path / "out", "--json"
    )
    assert code == 0
    mixed, info = load(tmp_path / "out")
    assert not info["missing_keys"] and not info["unexpected_keys"]
    (theta, _), (theta0, _) = load(tuned), load(base)
    assert mixed.keys() == theta.keys() == theta0.keys()
    for name, value in mixed.items():
        start = theta0[name].float()
        expected = (start + 0.3 * (theta[name].float() - start)).to(theta[name].dtype)
        assert value.dtype == theta[name].dtype
        torch.testing.assert_close(value, expected, rtol=1e-6, atol=1e-7)
        assert not torch.equal(value, theta[name])
    assert done["tensors"] == done["changed_tensors"] > 0
    assert done["differing_fraction"] == 1
    assert done["seconds"] > 0


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("slope", [-0.5, 0.75])
def test_the_share_changes_with_the_depth(slope, variant, pairs, command, tmp_path):
    tuned, base = pairs(variant)
    alpha = 0.25 if slope > 0 else 0.75
    options = ("--alpha", alpha, "--depth", slope, "--out", tmp_path / "out", "--json")
    code, done, _ = command("average", tuned, "--base", base, *options)
    assert (code, done["depth"]) == (0, slope)
    (mixed, _), (theta, _), (theta0, _) = load(tmp_path / "out"), load(tuned), load(base)
    depths = build_catalog(AutoModelForCausalLM.from_pretrained(tuned)).depths
    assert {0.0, 1.0} < set(depths.values())
    for name, value in mixed.items():
        start = theta0[name].float()
        share = alpha + slope * depths[name]
        expected = (start + share * (theta[name].float() - start)).to(theta[name].dtype)
        torch.testing.assert_close(value, expected, rtol=1e-6, atol=1e-7)


def test_no_slope_is_the_uniform_average_to_the_bit(pairs, command, tmp_path):
    tuned, base = pairs("bf16")
    average(tuned, base, 0.3, tmp_path / "uniform")
    words = ("--alpha", 0.3, "--depth", 0, "--out", tmp_path / "flat")
    assert command("average", tuned, "--base", base, *words)[0] == 0
    for shard in (tmp_path / "uniform").glob("*.safetensors"):
        assert (tmp_path / "flat" / shard.name).read_bytes() == shard.read_bytes()


@pytest.mark.parametrize(("alpha", "slope"), [(0.5, 0.75), (0.25, -0.5)])
def test_a_last_layer_outside_the_line_is_refused(alpha, slope, pairs, command, tmp_path):
    tuned, base = pairs("llama")
    words = ("--alpha", alpha, "--depth", slope, "--out", tmp_path / "out")
    code, _, errors = command("average", tuned, "--base", base, *words)
    assert code == 2 and "--depth" in errors and "between 0 and 1" in errors
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("alpha", [0, 1])
def test_ends_are_the_base_and_the_tuned_model_to_the_bit(alpha, variant, pairs, tmp_path):
    tuned, base = pairs(variant)
    done = average(tuned, base, alpha, tmp_path / "out")
    (mixed, _), (end, _) = load(tmp_path / "out"), load(tuned if alpha else base)
    assert {name: bits(each) for name, each in mixed.items()} == {
        name: bits(each) for name, each in end.items()
    }
    assert done.changed_tensors == (0 if alpha else done.tensors)


def test_what_tuning_left_alone_stays_to_the_bit(tmp_path):
    model = make("llama")
    with torch.no_grad():
        model.model.norm.weight[:2] = torch.tensor([-0.0, float("nan")])
    model.save_pretrained(tmp_path / "base")
    tune(model, only=("q_proj",)).save_pretrained(tmp_path / "tuned")
    done = average(tmp_path / "tuned", tmp_path / "base", 0.7, tmp_path / "out")
    assert done.changed_tensors == 4
    assert done.differing_fraction == pytest.approx(4 * 256 / model.num_parameters())
    (mixed, _), (theta0, _) = load(tmp_path / "out"), load(tmp_path / "base")
    changed = {name for name in mixed if bits(mixed[name]) != bits(theta0[name])}
    assert changed == {f"model.layers.{index}.self_attn.q_proj.weight" for index in range(4)}


def test_result_has_the_tuned_models_files_and_dtype(pairs, tmp_path):
    tuned, _ = pairs("bf16")
    _, base = pairs("llama")
    average(tuned, base, 0.5, tmp_path / "out")
    names = {path.name for path in tuned.iterdir()} - {"optimizer.pt"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == names
    for name in names:
        if not name.endswith(".safetensors"):
            assert (tmp_path / "out" / name).read_bytes() == (tuned / name).read_bytes()
    assert {each.dtype for each in load(tmp_path / "out")[0].values()} == {torch.bfloat16}


def test_rewriting_without_a_change_gives_the_same_bytes(pairs, tmp_path):
    tuned, base = pairs("llama")
    average(tuned, base, 1, tmp_path / "out")
    shards = sorted(tuned.glob("*.safetensors"))
    assert len(shards) > 2
    for shard in shards:
        assert (tmp_path / "out" / shard.name).read_bytes() == shard.read_bytes()


def test_package_names_are_found(command, tmp_path):
    demo = "package:hft_ray/demo/model"
    code, out, _ = command("average", demo, "--base", demo, "--alpha", 0.5, "--out", tmp_path / "o")
    assert code == 0
    assert "0 of " in out and "tensors changed" in out
    assert (tmp_path / "o" / "tokenizer.json").is_file()


def test_a_model_that_is_nowhere_is_refused(pairs, command, tmp_path):
    base = pairs("llama")[1]
    words = ("--base", base, "--alpha", 1, "--out", tmp_path / "out")
    code, _, errors = command("average", tmp_path / "none.gguf", *words)
    assert code == 2
    assert "TUNED" in errors and "no such file" in errors


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"hidden_size": 32}, "other shapes"),
        ({"num_hidden_layers": 3}, "BASE: lacks tensors that TUNED has: model.layers.3."),
        (
            {"num_hidden_layers": 5},
            "BASE: has tensors that TUNED's model has no place for: model.layers.4.",
        ),
        ({"tie_word_embeddings": True}, "BASE: lacks tensors that TUNED has: lm_head.weight"),
        ({"family": "mixtral"}, "is a model of type 'mixtral', but TUNED one of type 'llama'"),
    ],
)
def test_models_that_do_not_match_are_refused(settings, problem, pairs, command, tmp_path):
    make(**{"family": "llama", **settings}).save_pretrained(tmp_path / "base")
    words = ("--base", tmp_path / "base", "--alpha", 0.5, "--out", tmp_path / "out")
    code, _, errors = command("average", pairs("llama")[0], *words)
    assert code == 2
    assert problem in errors
    assert not (tmp_path / "out").exists()
    assert "Nothing was started" in errors


def test_existing_and_unreadable_directories_are_refused(pairs, command, tmp_path):
    tuned, base = pairs("llama")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "precious").write_text("mine")
    words = ("average", tuned, "--base", base, "--alpha", 0.5, "--out")
    code, _, errors = command(*words, tmp_path / "out")
    assert code == 2 and "exists already" in errors
    assert [each.name for each in (tmp_path / "out").iterdir()] == ["precious"]

    broken = shutil.copytree(tuned, tmp_path / "broken")
    shard = sorted(broken.glob("*.safetensors"))[1]
    shard.write_bytes(shard.read_bytes()[:-4])
    code, _, errors = command("average", broken, *words[2:], tmp_path / "new")
    assert code == 2 and "truncated" in errors and shard.name in errors
    shard.unlink()
    code, _, errors = command("average", broken, *words[2:], tmp_path / "new")
    assert code == 2 and shard.name in errors
    assert sorted(each.name for each in tmp_path.iterdir()) == ["broken", "out"]


def test_alpha_outside_its_range_is_refused(pairs, command, tmp_path):
    tuned, base = pairs("llama")
    code, _, errors = command(
        "average", tuned, "--base", base, "--alpha", 1.5, "--out", tmp_path / "out"
    )
    assert code == 2 and "alpha" in errors
    with pytest.raises(ConfigError, match="between 0 and 1"):
        average(tuned, base, -0.1, tmp_path / "out")


def test_a_failure_in_the_middle_leaves_nothing_behind(tmp_path):
    model = make("llama")
    model.save_pretrained(tmp_path / "base", max_shard_size="16KB")
    shutil.copytree(tmp_path / "base", tmp_path / "tuned")
    shard = sorted((tmp_path / "tuned").glob("*.safetensors"))[-1]
    tensors = load_file(shard)
    name = sorted(tensors)[0]
    tensors[name] = torch.ones(tensors[name].shape, dtype=torch.int32)
    save_file(tensors, shard, {"format": "pt"})
    with pytest.raises(ConfigError, match="integers"):
        average(tmp_path / "tuned", tmp_path / "base", 0.5, tmp_path / "out")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["base", "tuned"]


def test_quantised_models_are_refused(pairs, tmp_path):
    tuned, base = pairs("llama")
    quantised = shutil.copytree(base, tmp_path / "base")
    config = json.loads((base / "config.json").read_text())
    (quantised / "config.json").write_text(json.dumps({**config, "quantization_config": {}}))
    with pytest.raises(ConfigError, match="quantised"):
        average(tuned, quantised, 0.5, tmp_path / "out")
