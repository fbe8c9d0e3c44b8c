"""Manifests, artifacts that are whole or not there, and what earlier versions wrote."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from hft_ray.artifacts import (
    ArtifactError,
    FileName,
    Manifest,
    Mirror,
    delete_partial,
    new_file,
    new_folder,
    newest_whole,
    verify,
)
from hft_ray.ranks import Ranks
from hft_ray.training.checkpoint_reader import CheckpointReader
from hft_ray.training.kept import put_kept, read_kept
from hft_ray.weights import apply_delta

WRITTEN = Path(__file__).parent / "written"
"""What the first version wrote of each kind of artifact."""


class Plain(Manifest):
    files: dict[FileName, str]
    what: str


class Signed(Plain):
    signed = True
    number: float = 0.0


@pytest.fixture
def artifact(tmp_path):
    """``artifact(kind, **content)``: an artifact of one file, ``a``, with its manifest."""

    def make(kind=Signed, **content):
        with new_folder(tmp_path / "made", replace=True) as folder:
            (folder / "a").write_bytes(b"abc")
            digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
            kind(files={"a": digest}, what="x", **content).write(folder / "manifest.json")
        return tmp_path / "made"

    return make


@pytest.mark.parametrize("kind", [Plain, Signed])
def test_an_artifact_comes_back(artifact, kind):
    folder = artifact(kind)
    found = kind.read(folder / "manifest.json")
    verify(folder, found.files)
    assert found.what == "x"
    assert ("sha256" in json.loads((folder / "manifest.json").read_text())) == kind.signed


@pytest.mark.parametrize("number", [math.inf, -math.inf, 0.1, 1e300])
def test_numbers_come_back_exactly(artifact, number):
    assert Signed.read(artifact(number=number) / "manifest.json").number == number


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda text: text[:-3], "is damaged"),
        (lambda text: text.replace('"x"', '"y"'), "its checksum is not its own"),
        (lambda text: text.replace("sha256", "sha257"), "its checksum is not its own"),
        (lambda text: "[]", "its checksum is not its own"),
        (lambda text: "\x00", "is damaged"),
    ],
)
def test_a_damaged_manifest_is_refused(artifact, damage, said):
    path = artifact() / "manifest.json"
    path.write_text(damage(path.read_text()))
    with pytest.raises(ArtifactError, match=said):
        Signed.read(path)


@pytest.mark.parametrize("name", ["../a", "/etc/passwd", "b/a", "", ".", ".."])
def test_a_manifest_names_only_files_of_its_folder(artifact, name):
    path = artifact(Plain) / "manifest.json"
    path.write_text(json.dumps({"files": {name: "0"}, "what": "x"}))
    with pytest.raises(ArtifactError, match="outside its folder"):
        Plain.read(path)


def test_a_manifest_of_another_version_or_none_is_refused(artifact, tmp_path):
    path = artifact(Plain) / "manifest.json"
    path.write_text(json.dumps({"files": {}}))
    with pytest.raises(ArtifactError, match="of another version of hft-ray: what: Field required"):
        Plain.read(path)
    with pytest.raises(ArtifactError, match="cannot be read: No such file"):
        Plain.read(tmp_path / "manifest.json")


@pytest.mark.parametrize("content", [b"abd", b"ab", b"", None])
def test_a_changed_or_missing_file_is_noticed(artifact, content):
    folder = artifact()
    (folder / "a").unlink() if content is None else (folder / "a").write_bytes(content)
    with pytest.raises(ArtifactError, match=r"a is (damaged|missing)"):
        verify(folder, Signed.read(folder / "manifest.json").files)


def test_the_newest_whole_one_is_found_and_the_others_are_told():
    def read(number):
        if number > 3:
            raise ArtifactError(f"{number} is damaged")
        return str(number)

    assert newest_whole([5, 4, 3, 2], read) == ("3", ["5 is damaged", "4 is damaged"])
    assert newest_whole([5], read) == (None, ["5 is damaged"])
    assert newest_whole([], read) == (None, [])


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    target = tmp_path / "new" / "target"
    with pytest.raises(KeyError), new_folder(target) as folder:
        (folder / "half").touch()
        raise KeyError
    assert not list(target.parent.iterdir())
    with new_folder(target) as folder:
        (folder / "one").touch()
        assert not target.exists()
    with new_folder(target, replace=True) as folder:
        (folder / "two").touch()
        assert [path.name for path in target.iterdir()] == ["one"]
    assert [path.name for path in target.iterdir()] == ["two"]
    with pytest.raises(OSError, match="not empty"), new_folder(target) as folder:
        (folder / "three").touch()
    assert [path.name for path in target.iterdir()] == ["two"]
    assert [path.name for path in target.parent.iterdir()] == ["target"]


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    target = tmp_path / ("x" * 250)
    with pytest.raises(KeyError), new_file(target) as path:
        path.write_text("half")
        raise KeyError
    for content in ("one", "two"):
        with new_file(target) as path:
            path.write_text(content)
        assert target.read_text() == content
    assert list(tmp_path.iterdir()) == [target]


def test_what_killed_processes_left_is_deleted(tmp_path):
    for name in (".partial-a-1", ".partial-b-1", "a", ".hidden"):
        (tmp_path / name).mkdir()
    delete_partial(tmp_path, "a")
    assert {path.name for path in tmp_path.iterdir()} == {".partial-b-1", "a", ".hidden"}
    delete_partial(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"a", ".hidden"}


# What the first version wrote is still read.


def test_a_checkpoint_of_the_first_version():
    reader = CheckpointReader(Ranks(), torch.device("cpu"), {"weight": range(4)})
    found, problems = reader.newest(WRITTEN / "checkpoints", None)
    assert found is not None and not problems
    assert (found.manifest.step, found.manifest.steps) == (3, {"weight": 3})
    assert found.manifest.history["measures"] == {"u": math.inf}
    assert math.isnan(found.manifest.scored["values"]["task/x"])
    assert {name: x.tolist() for name, x in found.state.items()} == {"weight/weight": [0, 1, 2, 3]}
    assert list(found.beside) == ["random/0"]


def test_kept_weights_of_the_first_version():
    kept = read_kept(WRITTEN / "kept" / "final")
    assert (kept.base, kept.dtype) == ("b" * 64, "float32")
    model = nn.Linear(2, 2)
    put_kept(model, WRITTEN / "kept" / "final", kept)
    assert model.weight.tolist() == [[1, 2], [3, 4]]


def test_a_delta_of_the_first_version(tmp_path):
    done = apply_delta(WRITTEN / "delta", WRITTEN / "base", tmp_path / "out")
    assert (done.tensors, done.stored_tensors) == (2, 1)
    out, tuned = (
        load_file(each / "model.safetensors") for each in (tmp_path / "out", WRITTEN / "tuned")
    )
    assert all(torch.equal(out[name], each) for name, each in tuned.items())


def test_a_copy_of_the_first_version(tmp_path):
    place = Mirror(str(shutil.copytree(WRITTEN / "mirror", tmp_path / "mirror")))
    assert place.names() == ["copied"]
    place.get("copied", tmp_path / "back")
    assert read_kept(tmp_path / "back").base == "b" * 64
