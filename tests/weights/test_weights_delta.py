"""Deltas: small, back to the bit, and refused where they would not be."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from weights_models import bits, load, make, tune

from hft_ray.config import ConfigError
from hft_ray.weights import apply_delta, write_delta


def _files(folder: Path) -> dict[str, bytes]:
    return {
        path.name: path.read_bytes()
        for path in folder.iterdir()
        if path.is_file() and path.name != "optimizer.pt"
    }


@pytest.fixture(scope="module")
def half(tmp_path_factory) -> tuple[Path, Path, Path]:
    """Folders of a model whose attention was tuned, of its base, and of the delta."""
    root = tmp_path_factory.mktemp("half")
    model = make("llama")
    model.save_pretrained(root / "base", max_shard_size="30KB")
    tune(model, only=("self_attn", "lm_head")).save_pretrained(
        root / "tuned", max_shard_size="16KB"
    )
    write_delta(root / "tuned", root / "base", root / "delta")
    return root / "tuned", root / "base", root / "delta"


@pytest.mark.parametrize("variant", ["llama", "tied", "bf16", "gpt2", "mixtral"])
def test_base_and_delta_give_the_tuned_models_files(variant, pairs, command, tmp_path):
    tuned, base = pairs(variant)
    written = write_delta(tuned, base, tmp_path / "delta")
    assert written.stored_tensors == written.tensors
    code, done, _ = command(
        "apply", tmp_path / "delta", "--base", base, "--out", tmp_path / "out", "--json"
    )
    assert code == 0
    assert done["tensors"] == written.tensors
    assert _files(tmp_path / "out") == _files(tuned)
    assert not load(tmp_path / "out")[1]["missing_keys"]


def test_only_what_differs_is_stored(half, tmp_path):
    tuned, base, delta = half
    stored = {name for path in (delta / "delta").glob("*.safetensors") for name in load_file(path)}
    assert stored and all("self_attn" in name or "lm_head" in name for name in stored)
    assert len(stored) == 17
    done = apply_delta(delta, base, tmp_path / "out")
    assert _files(tmp_path / "out") == _files(tuned)
    attention = 4 * (2 * 16 * 16 + 2 * 16 * 8) + 96 * 16
    assert done.stored_bytes == 4 * attention
    assert done.bytes == 4 * make("llama").num_parameters()
    size = sum(path.stat().st_size for path in (delta / "delta").glob("*.safetensors"))
    assert size < done.stored_bytes + 20_000


def test_frozen_matrices_of_a_bf16_model_are_left_out_against_an_fp32_base(tmp_path):
    make("llama").save_pretrained(tmp_path / "base")
    tune(make("llama", dtype=torch.bfloat16), only=("mlp",)).save_pretrained(tmp_path / "tuned")
    done = write_delta(tmp_path / "tuned", tmp_path / "base", tmp_path / "delta")
    assert done.stored_tensors == 12
    apply_delta(tmp_path / "delta", tmp_path / "base", tmp_path / "out")
    assert _files(tmp_path / "out") == _files(tmp_path / "tuned")


def test_a_signed_zero_is_a_difference(tmp_path):
    model = make("llama")
    torch.nn.init.zeros_(model.model.norm.weight)
    model.save_pretrained(tmp_path / "base")
    model.model.norm.weight.data.neg_()
    model.save_pretrained(tmp_path / "tuned")
    done = write_delta(tmp_path / "tuned", tmp_path / "base", tmp_path / "delta")
    assert done.stored_tensors == 1
    apply_delta(tmp_path / "delta", tmp_path / "base", tmp_path / "out")
    assert torch.signbit(load(tmp_path / "out")[0]["model.norm.weight"]).all()


def test_grown_embeddings_are_stored_whole(tmp_path):
    model = make("llama")
    model.save_pretrained(tmp_path / "base")
    model.resize_token_embeddings(99)
    model.save_pretrained(tmp_path / "tuned")
    done = write_delta(tmp_path / "tuned", tmp_path / "base", tmp_path / "delta")
    assert done.stored_tensors == 2
    apply_delta(tmp_path / "delta", tmp_path / "base", tmp_path / "out")
    assert _files(tmp_path / "out") == _files(tmp_path / "tuned")


def test_a_base_in_published_names_serves(pairs, tmp_path):
    _, base = pairs("gpt2")
    published = shutil.copytree(base, tmp_path / "published")
    tensors = load_file(base / "model.safetensors")
    tensors = {name.removeprefix("transformer."): each for name, each in tensors.items()}
    save_file(tensors, published / "model.safetensors", {"format": "pt"})
    done = write_delta(base, published, tmp_path / "delta")
    assert done.stored_tensors == 0
    apply_delta(tmp_path / "delta", published, tmp_path / "out")
    assert _files(tmp_path / "out") == _files(base)


@pytest.mark.parametrize("touched", ["model.embed_tokens.weight", "lm_head.weight"])
def test_another_base_is_refused_by_hash(touched, half, command, tmp_path):
    """One bit in one tensor is enough, also where the delta has its own value (lm_head)."""
    _, base, delta = half
    other = shutil.copytree(base, tmp_path / "other")
    for path in other.glob("*.safetensors"):
        tensors = load_file(path)
        if touched in tensors:
            tensors[touched].view(torch.int32)[3, 3] ^= 1
            save_file(tensors, path, {"format": "pt"})
    code, _, errors = command("apply", delta, "--base", other, "--out", tmp_path / "out")
    assert code == 2
    assert "not the model that the delta was made from" in errors and touched in errors
    assert sorted(each.name for each in tmp_path.iterdir()) == ["other"]


def test_a_base_of_another_shape_or_type_is_refused(half, tmp_path):
    tuned, _, delta = half
    make("llama", num_hidden_layers=3).save_pretrained(tmp_path / "shallow")
    with pytest.raises(ConfigError, match="only one of them has"):
        apply_delta(delta, tmp_path / "shallow", tmp_path / "out")
    make("gpt2").save_pretrained(tmp_path / "gpt2")
    with pytest.raises(ConfigError, match="of type 'gpt2'"):
        write_delta(tuned, tmp_path / "gpt2", tmp_path / "out")


def test_a_reformatted_base_serves(half, tmp_path):
    """The base is known by its tensors, not by how they are cut into files."""
    tuned, base, delta = half
    tensors = {
        name: each for path in base.glob("*.safetensors") for name, each in load_file(path).items()
    }
    (tmp_path / "one").mkdir()
    save_file(tensors, tmp_path / "one" / "model.safetensors")
    shutil.copyfile(base / "config.json", tmp_path / "one" / "config.json")
    apply_delta(delta, tmp_path / "one", tmp_path / "out")
    assert _files(tmp_path / "out") == _files(tuned)


def test_damaged_deltas_are_refused(half, command, tmp_path):
    _, base, delta = half
    target = tmp_path / "out"

    def refusal(copy: Path) -> str:
        code, _, errors = command("apply", copy, "--base", base, "--out", target)
        assert code == 2 and "DELTA" in errors and not target.exists()
        return errors

    short = shutil.copytree(delta, tmp_path / "short")
    file = sorted((short / "delta").glob("*.safetensors"))[0]
    content = file.read_bytes()
    file.write_bytes(content[:-1])
    assert "truncated" in refusal(short)
    flipped = bytearray(content)
    flipped[-1] ^= 1
    file.write_bytes(flipped)
    assert "not the one that was written" in refusal(short)
    file.unlink()
    assert "cannot be read" in refusal(short)
    file.write_bytes(content)
    text = (delta / "delta.json").read_text()
    (short / "delta.json").write_text(text[: len(text) // 2])
    assert "damaged" in refusal(short)
    manifest = json.loads(text)
    manifest["files"]["../escape.safetensors"] = manifest["files"].popitem()[1]
    (short / "delta.json").write_text(json.dumps(manifest))
    assert "outside its folder" in refusal(short)
    (short / "delta.json").unlink()
    assert "not a delta" in refusal(short)


def test_a_delta_is_no_model(half, command, tmp_path):
    _, base, delta = half
    code, _, errors = command("reset", delta, "--base", base, "--out", tmp_path / "out")
    assert code == 2 and "no safetensors weights" in errors


def test_the_delta_equals_bit_for_bit_what_it_stores(half):
    tuned, _, delta = half
    for path in (delta / "delta").glob("*.safetensors"):
        whole = load_file(tuned / path.name)
        for name, tensor in load_file(path).items():
            assert bits(tensor) == bits(whole[name])
