"""Input that means harm, or is far too much: refused with a message and nothing written."""

from __future__ import annotations

import hashlib
import json
import pickle
import sys
import time
from pathlib import Path

import pytest
import yaml

from hft_ray.cli import main
from hft_ray.config import ConfigError, Model
from hft_ray.config.load import parse
from hft_ray.config.yaml_text import read_yaml
from hft_ray.orchestration.folder import SweepFolder
from hft_ray.training.models import find_model, load_model

FILE = {
    "name": "s",
    "model": "nowhere/model",
    "data": {"train": "nowhere.jsonl"},
    "search": {"space": {"selection.ratio": {"low": 0.1, "high": 0.9}}},
}
QUICK = 60
"""Seconds that a refusal may take on a loaded machine."""


@pytest.fixture
def hft_ray(monkeypatch, capsys, tmp_path):
    """Run a command in this process: it must refuse; return what it says."""
    home = tmp_path / "home"
    monkeypatch.setenv("HFT_RAY_HOME", str(home))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["hft-ray", *map(str, arguments)])
        before, began = set(tmp_path.rglob("*")), time.monotonic()
        with pytest.raises(SystemExit) as ended:
            main()
        assert time.monotonic() - began < QUICK
        assert set(tmp_path.rglob("*")) == before
        written = capsys.readouterr()
        assert ended.value.code == 2, written
        assert "Traceback" not in written.err
        return written.err

    return run


def refused(hft_ray, tmp_path, content, *words):
    file = tmp_path / "f.yaml"
    file.write_bytes(content if isinstance(content, bytes) else yaml.safe_dump(content).encode())
    said = hft_ray("tune", file)
    for word in words:
        assert word in said
    assert len(said) < 30_000
    return said


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join(['*' + before] * 9)}]\n"
    for before, name in zip("abcdefghi", "bcdefghij", strict=True)
)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (BOMB, "more than 200000 values"),
        ("a: &a {b: *a}", "holds itself"),
        ("a: " + "[" * 5000 + "]" * 5000, "not valid YAML"),
        ("a: " + "{a: " * 150 + "1" + "}" * 150, "nested more than 100 deep"),
        ("name: " + "x" * 5_000_000, "more than 4000000"),
        ("a: !!python/object/apply:os.system [touch owned]", "could not determine a constructor"),
        ("a: 2024-13-45", "not valid YAML"),
        ("- a\n- b", "must be a mapping"),
        ("a: 1\n---\nb: 2", "not valid YAML"),
    ],
    ids=["bomb", "cycle", "brackets", "deep", "long", "object", "date", "list", "documents"],
)
def test_yaml_that_means_harm_is_refused(hft_ray, tmp_path, text, said):
    refused(hft_ray, tmp_path, text.encode(), said)


def test_aliases_in_measure_are_welcome():
    assert read_yaml("a: &a [1, 2]\nb: *a\nc: {<<: {x: 1}, y: *a}") == {
        "a": [1, 2],
        "b": [1, 2],
        "c": {"x": 1, "y": [1, 2]},
    }


def test_an_override_is_no_way_round(hft_ray, tmp_path):
    file = tmp_path / "f.yaml"
    file.write_text(yaml.safe_dump(FILE))
    said = hft_ray("tune", file, "--set", "model.architecture={a: &a {b: *a}}")
    assert "holds itself" in said


@pytest.mark.parametrize("text", [b"name: \xff\xfe", b"\x00\x01", b"name: a\x07b", b"\x80" * 9999])
def test_bytes_that_are_no_text_are_refused(hft_ray, tmp_path, text):
    refused(hft_ray, tmp_path, text, "error: ")


NAMES = ["../../out", "/etc/x", "a/b", "..", "<script>alert(1)</script>", "a\nb", "x" * 9999, "ä"]


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_a_name_leads_nowhere_else(hft_ray, tmp_path, name):
    refused(hft_ray, tmp_path, FILE | {"name": name}, "name")
    part = {"name": name, "kind": "perplexity", "data": "x.jsonl"}
    refused(hft_ray, tmp_path, FILE | {"evaluation": {"task": [part]}}, "evaluation.task.0.name")
    with pytest.raises(ConfigError, match="is not a valid name of a sweep"):
        SweepFolder(tmp_path, name)


def test_ten_thousand_keys_are_refused_soon_and_shortly(hft_ray, tmp_path):
    many = {f"selection.ratio{number}": [0.1, 0.2] for number in range(10_000)}
    refused(hft_ray, tmp_path, FILE | {"search": {"space": many}}, "search.space", "at most 200")
    said = refused(hft_ray, tmp_path, FILE | dict.fromkeys(many, 1), "unknown key", "and 9900 more")
    assert said.count("\n") < 300


def test_a_very_long_key_or_value_is_cut(hft_ray, tmp_path):
    said = refused(hft_ray, tmp_path, FILE | {"k" * 100_000: 1, "method": "v" * 100_000})
    assert len(said) < 5000


@pytest.mark.parametrize(
    "uri",
    [
        "http://me:hunter2@mlflow.example.org",
        "https://hunter2@mlflow.example.org",
        "postgresql://me:hunter2@db.example.org/mlflow",
        "postgresql://db.example.org/mlflow?user=me&password=hunter2",
        "https://mlflow.example.org/?access_token=hunter2",
    ],
)
def test_a_secret_in_file_is_refused_and_not_repeated(hft_ray, tmp_path, uri):
    said = refused(hft_ray, tmp_path, FILE | {"tracking": {"uri": uri}}, "MLFLOW_TRACKING_PASSWORD")
    assert "hunter2" not in said
    assert "hunter2" not in hft_ray("status", "s", "--tracking-uri", uri)


def test_a_store_without_a_secret_is_taken():
    uri = "postgresql://me@db.example.org/mlflow?sslmode=verify-full&sslkey=/etc/me.pem"
    assert parse(yaml.safe_dump(FILE | {"tracking": {"uri": uri}}), "f").tracking.uri == uri


class Harm:
    def __reduce__(self):
        return (open, ("owned", "w"))


def test_pickled_weights_are_not_loaded(tiny_models, tmp_path, monkeypatch):
    import torch

    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text((Path(tiny_models["untied"]) / "config.json").read_text())
    torch.save({"weight": Harm()}, folder / "pytorch_model.bin")
    model = Model(name=str(folder))
    with pytest.raises(ConfigError, match="pickled ones are not loaded"):
        find_model(model, tmp_path / "cache")
    # Under the name of the other kind it is no safer, and is not loaded either.
    (folder / "model.safetensors").write_bytes(pickle.dumps(Harm()))
    source = find_model(model, tmp_path / "cache")
    with pytest.raises(ConfigError, match="the model cannot be loaded"):
        load_model(model, source, torch.float32)
    assert not (tmp_path / "owned").exists()


def test_kept_weights_are_neither_pickles_nor_files_elsewhere(tmp_path, monkeypatch):
    from safetensors import SafetensorError

    from hft_ray.artifacts import ArtifactError
    from hft_ray.training.kept import MANIFEST, kept_names, read_kept

    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "kept"
    folder.mkdir()
    for name in ("state.safetensors", "../outside.safetensors"):
        (folder / name).write_bytes(pickle.dumps(Harm()))
        digest = hashlib.sha256((folder / name).read_bytes()).hexdigest()
        kept = {"base": "b", "dtype": "float32", "files": {name: digest}}
        (folder / MANIFEST).write_text(json.dumps(kept))
        with pytest.raises((SafetensorError, ArtifactError)) as refused:
            kept_names(folder, read_kept(folder))
        if name.startswith(".."):
            assert "names a file outside its folder" in str(refused.value)
    assert not (tmp_path / "owned").exists()
