"""Half-reset: what is drawn is the base's to the bit, all else is the tuned model's."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM
from weights_models import bits, load, make, tune

from hft_ray.config import ConfigError, Selection
from hft_ray.selection import build_catalog, draw
from hft_ray.weights import half_reset

VARIANTS = ["llama", "tied", "bf16", "gpt2", "mixtral"]


def _drawn(folder: Path, **selection) -> set[str]:
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder))
    model.tie_weights()
    return set(draw(build_catalog(model), Selection(**selection), 0).parameters)


def _assert_reset(out: Path, tuned: Path, base: Path, reset: set[str]) -> None:
    (result, info), (theta, _), (theta0, _) = load(out), load(tuned), load(base)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    assert result.keys() == theta.keys()
    assert reset < result.keys()
    for name, value in result.items():
        assert bits(value) == bits((theta0 if name in reset else theta)[name]), name
        assert bits(theta0[name]) != bits(theta[name])


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("granularity", ["model", "layer", "category"])
def test_drawn_parameters_are_the_bases_and_all_others_stay_tuned(
    granularity, variant, pairs, command, tmp_path
):
    tuned, base = pairs(variant)
    options = {"ratio": 0.5, "granularity": granularity, "seed": 3}
    words = [word for key, value in options.items() for word in (f"--{key}", value)]
    code, done, _ = command(
        "reset", tuned, "--base", base, *words, "--out", tmp_path / "out", "--json"
    )
    assert code == 0
    reset = _drawn(tuned, embeddings="frozen", **options)
    _assert_reset(tmp_path / "out", tuned, base, reset)
    assert not any("embed" in name or "wte" in name for name in reset)
    assert done["fractions"]["matrices"] == pytest.approx(0.5, abs=0.05)
    assert done["changed_tensors"] == done["reset_tensors"] >= len(reset)
    assert done["tensors"] > done["reset_tensors"]
    assert len(done["hash"]) == 64


def test_budget_and_embeddings_follow_their_options(pairs, command, tmp_path):
    tuned, base = pairs("tied")
    for mode, meaning in (("reset", "trained"), ("selected", "selected")):
        out = tmp_path / mode
        words = ("--ratio", 0.25, "--budget", "parameters", "--granularity", "model")
        code, text, _ = command(
            "reset", tuned, "--base", base, *words, "--embeddings", mode, "--out", out
        )
        assert code == 0 and "matrices have the base's values again" in text
        reset = _drawn(
            tuned, ratio=0.25, budget="parameters", granularity="model", embeddings=meaning
        )
        _assert_reset(out, tuned, base, reset)


def test_ratio_one_with_embeddings_gives_the_base(pairs, tmp_path):
    tuned, base = pairs("mixtral")
    done = half_reset(tuned, base, Selection(ratio=1, embeddings="trained"), tmp_path / "out")
    assert done.reset_tensors == done.tensors
    assert done.fractions.model_parameters == 1
    (result, _), (theta0, _) = load(tmp_path / "out"), load(base)
    assert all(bits(result[name]) == bits(theta0[name]) for name in theta0)


def test_published_gpt2_names_without_prefix_are_understood(pairs, tmp_path):
    tuned, base = pairs("gpt2")
    published = shutil.copytree(base, tmp_path / "published")
    tensors = load_file(base / "model.safetensors")
    renamed = {name.removeprefix("transformer."): each for name, each in tensors.items()}
    # Buffers of former versions, which every loader skips, and the head that is tied anyway.
    renamed |= {f"h.{index}.attn.bias": torch.ones(1, 1, 32, 32) for index in range(4)}
    save_file(renamed, published / "model.safetensors", {"format": "pt"})
    reset = _drawn(tuned, embeddings="frozen")
    half_reset(tuned, published, Selection(embeddings="frozen"), tmp_path / "out")
    _assert_reset(tmp_path / "out", tuned, base, reset)
    # The other way round, the tuned model in the published names.
    half_reset(published, tuned, Selection(embeddings="frozen"), tmp_path / "back")
    result = load_file(tmp_path / "back" / "model.safetensors")
    assert result.keys() == renamed.keys()
    _assert_reset(tmp_path / "back", base, tuned, reset)


def test_a_tied_head_that_is_stored_twice_follows_its_embedding(pairs, tmp_path):
    tuned, base = pairs("tied")
    twice = shutil.copytree(base, tmp_path / "twice")
    tensors = load_file(base / "model.safetensors")
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()
    save_file(tensors, twice / "model.safetensors", {"format": "pt"})
    half_reset(twice, tuned, Selection(embeddings="trained"), tmp_path / "out")
    result = load_file(tmp_path / "out" / "model.safetensors")
    embedding = load(tuned)[0]["model.embed_tokens.weight"]
    for name in ("lm_head.weight", "model.embed_tokens.weight"):
        assert bits(result[name]) == bits(embedding)


def test_fused_experts_against_single_ones_are_refused(pairs, tmp_path):
    tuned, _ = pairs("mixtral")
    model = make("mixtral")
    model.save_pretrained(tmp_path / "fused", save_original_format=False)
    with pytest.raises(ConfigError, match=r"lacks tensors that TUNED has.*experts\.0\.w1"):
        half_reset(tuned, tmp_path / "fused", Selection(), tmp_path / "out")


def test_fused_experts_on_both_sides_are_reset_whole(tmp_path):
    model = make("mixtral")
    model.save_pretrained(tmp_path / "base", save_original_format=False)
    tune(model).save_pretrained(tmp_path / "tuned", save_original_format=False)
    assert any("gate_up_proj" in name for name in load_file(tmp_path / "tuned/model.safetensors"))
    half_reset(tmp_path / "tuned", tmp_path / "base", Selection(), tmp_path / "out")
    reset = _drawn(tmp_path / "tuned")
    _assert_reset(tmp_path / "out", tmp_path / "tuned", tmp_path / "base", reset)


def test_tensors_that_no_rule_explains_are_refused_by_name(pairs, command, tmp_path):
    tuned, base = pairs("llama")
    strange = []
    for folder in (tuned, base):
        copy = shutil.copytree(folder, tmp_path / folder.name)
        file = sorted(copy.glob("*.safetensors"))[0]
        tensors = load_file(file) | {"model.layers.0.extra.weight": torch.ones(3)}
        save_file(tensors, file, {"format": "pt"})
        strange.append(copy)
    words = ("reset", strange[0], "--base", strange[1], "--out", tmp_path / "out")
    code, _, errors = command(*words)
    assert code == 2
    assert "not one parameter's: model.layers.0.extra.weight" in errors
    assert not (tmp_path / "out").exists()


def test_a_model_whose_files_lack_a_parameter_is_refused(pairs, tmp_path):
    folders = []
    for folder in pairs("bf16"):
        copy = shutil.copytree(folder, tmp_path / folder.name)
        for file in copy.glob("*.safetensors"):
            tensors = load_file(file)
            tensors.pop("model.norm.weight", None)
            save_file(tensors, file, {"format": "pt"})
        folders.append(copy)
    with pytest.raises(ConfigError, match=r"no tensor for parameters.*model\.norm\.weight"):
        half_reset(*folders, Selection(), tmp_path / "out")


def test_ratio_zero_and_unknown_models_are_refused(pairs, command, tmp_path):
    tuned, base = pairs("llama")
    words = ("--base", base, "--out", tmp_path / "out")
    code, _, errors = command("reset", tuned, *words, "--ratio", 0)
    assert code == 2 and "--ratio" in errors
    (tmp_path / "empty").mkdir()
    code, _, errors = command("reset", tmp_path / "empty", *words)
    assert code == 2 and "TUNED" in errors and "config.json" in errors
