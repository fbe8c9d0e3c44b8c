"""Copies in an S3 server on loopback and in a folder: whole, verified, or said to be neither."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from servers import ObjectStore

from hft_ray.artifacts import Mirror, MirrorError
from hft_ray.artifacts.mirror import LIST
from hft_ray.config import ConfigError
from hft_ray.config.sections.cluster import checked_mirror
from hft_ray.orchestration.model_export import export_to_store
from hft_ray.storage_root import storage_root

FILES = {"a.safetensors": b"\x00\x01" * 3_000_000, "manifest.json": b"{}"}


@pytest.fixture(scope="module")
def s3():
    server = ObjectStore()
    yield server
    server.close()


@pytest.fixture
def environment(s3, monkeypatch):
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)


@pytest.fixture(params=["s3", "folder"])
def place(request, environment, tmp_path):
    uri = "s3://hft" if request.param == "s3" else str(tmp_path / "mirror")
    return Mirror(uri) / request.node.name.replace("[", "-").strip("]") / "run"


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "made"
    made.mkdir()
    for name, content in FILES.items():
        (made / name).write_bytes(content)
    return made


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def spoil(place, name, key, content):
    """Write a file of a copy behind its back."""
    store, path = place.located(name)
    if not place.uri.startswith("s3://"):
        store.create_dir(path)
    with store.open_output_stream(f"{path}/{key}") as target:
        target.write(content)


def test_a_copy_comes_back_as_it_was_and_is_gone_when_deleted(place, folder, tmp_path):
    assert place.names() == []
    place.delete("step-1")
    for name in ("step-1", "step-2", "weights/t0/final"):
        place.put(folder, name)
    (folder / "manifest.json").unlink()
    place.put(folder, "step-2")
    assert place.names() == ["step-1", "step-2", "weights/t0/final"]
    (tmp_path / "back").mkdir()
    (tmp_path / "back" / "old").touch()
    place.get("step-1", tmp_path / "back")
    assert content(tmp_path / "back") == FILES
    place.get("step-2", tmp_path / "back")
    assert content(tmp_path / "back").keys() == {"a.safetensors"}
    place.delete("weights")
    place.delete("step-1")
    # A folder keeps no empty ones of copies that are gone.
    assert {path.name for path in Path(place.uri).glob("*")} <= {"step-2"}
    assert place.names() == ["step-2"]


def test_what_is_damaged_is_known_by_its_checksum(place, folder, tmp_path):
    place.put(folder, "step-1")
    target = tmp_path / "back"
    target.mkdir()
    (target / "mine").touch()
    changed = bytearray(FILES["a.safetensors"])
    changed[4_000_000] ^= 1
    for key, wrong, said in (
        ("a.safetensors", bytes(changed), "a.safetensors is damaged"),
        ("a.safetensors", FILES["a.safetensors"][:-1], "a.safetensors is damaged"),
        (LIST, b'{"a.safe', "cannot be read"),
        (LIST, json.dumps({"../../owned": "0" * 64}).encode(), "is damaged"),
        (LIST, json.dumps({"missing": "0" * 64}).encode(), "missing"),
    ):
        spoil(place, "step-1", key, wrong)
        with pytest.raises(MirrorError, match=said):
            place.get("step-1", target)
        assert content(target) == {"mine": b""}
    assert not list(tmp_path.rglob("owned"))
    assert not list(tmp_path.glob(".partial-*"))


def test_a_copy_without_its_list_is_none(place, folder, tmp_path):
    place.put(folder, "whole")
    spoil(place, "half", "a.safetensors", FILES["a.safetensors"])
    assert place.names() == ["whole"]
    with pytest.raises(MirrorError, match="half cannot be read"):
        place.get("half", tmp_path / "back")


def test_a_store_that_does_not_answer_is_told_soon(environment, monkeypatch, folder):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    place = Mirror("s3://hft/down")
    for call in (lambda: place.put(folder, "a"), place.names, lambda: place.get("a", folder)):
        with pytest.raises(MirrorError, match="s3://hft/down"):
            call()
    assert content(folder) == FILES


def test_a_bucket_that_is_not_there_is_told(environment, folder):
    with pytest.raises(MirrorError, match="cannot be written"):
        Mirror("s3://nobody/here").put(folder, "a")


@pytest.mark.parametrize("uri", ["s3://hft", "s3://hft/a/b_c-1", "/mnt/share"])
def test_places_that_are_taken(uri):
    assert checked_mirror(uri) == uri


@pytest.mark.parametrize(
    "uri",
    [
        "share",
        "s3://",
        "s3://me:hunter2@hft/a",
        "s3://hft/../x",
        "/a/../b",
        "gs://hft",
        "s3://hft/a b",
    ],
)
def test_places_that_are_refused(uri):
    with pytest.raises(ValueError, match="must be s3://BUCKET/PREFIX or an absolute path"):
        checked_mirror(uri)


def test_an_export_to_a_store_is_refused_before_anything_is_read(environment, folder, tmp_path):
    Mirror("s3://hft/exports").put(folder, "there")
    for out, said in (
        ("s3://hft", "must name a prefix within the bucket"),
        ("s3://hft/a b", "must be s3://BUCKET/PREFIX"),
        ("s3://hft/exports/there", "exists already"),
        ("s3://nobody/x", "no sweep of this name|nobody"),
        ("s3://hft/exports/new", "no sweep of this name"),
    ):
        with pytest.raises(ConfigError, match=said):
            export_to_store(tmp_path / "home", "s", "knee", out, delta=False)
    assert not (tmp_path / "home").exists()


def test_an_object_store_is_no_storage_root(monkeypatch):
    from pathlib import Path

    monkeypatch.setenv("HFT_RAY_HOME", "s3://hft/home")
    for given in (None, Path("s3://hft/home"), Path("gs://x")):
        with pytest.raises(ConfigError, match=r"cluster\.mirror in FILE names an object store"):
            storage_root(given)
