"""Tensors in safetensors files, written and read without holding all of them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import load, save_file
from torch import Tensor

from hft_ray.artifacts.manifest import ArtifactError, damaged, sha256_of
from hft_ray.artifacts.whole import sync

_SHARD_BYTES = 1 << 30


def write_tensors(
    folder: Path, tensors: Iterable[tuple[str, Tensor]], stem: str = "state"
) -> dict[str, str]:
    """Write CPU tensors to safetensors files, a gigabyte at a time.

    Args:
        folder: Where to write ``STEM-00000.safetensors`` and so on.
        tensors: Name -> tensor; consumed as it is written.
        stem: How the files' names begin.

    Returns:
        File name -> SHA-256.
    """
    return {name: _write_shard(folder / name, shard) for name, shard in _shards(tensors, stem)}


def _shards(
    tensors: Iterable[tuple[str, Tensor]], stem: str
) -> Iterator[tuple[str, dict[str, Tensor]]]:
    shard: dict[str, Tensor] = {}
    number = size = 0
    for name, tensor in tensors:
        shard[name] = tensor.contiguous()
        size += tensor.numel() * tensor.element_size()
        if size >= _SHARD_BYTES:
            yield f"{stem}-{number:05d}.safetensors", shard
            shard, number, size = {}, number + 1, 0
    if shard:
        yield f"{stem}-{number:05d}.safetensors", shard


def _write_shard(path: Path, shard: dict[str, Tensor]) -> str:
    save_file(shard, path)
    sync(path)
    return sha256_of(path)


def read_tensors(
    files: Iterable[Path], wanted: Callable[[str], bool] = lambda name: True
) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors in safetensors files whose names are wanted, one at a time."""
    for path in files:
        with safe_open(path, framework="pt", device="cpu") as file:
            for name in file.keys():  # noqa: SIM118  (the file is not a mapping)
                if wanted(name):
                    yield name, file.get_tensor(name)


def read_verified(path: Path, digest: str) -> dict[str, Tensor]:
    """Return the tensors in a safetensors file, which is read once.

    Raises:
        ArtifactError: The file is missing, cut short or changed.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ArtifactError(f"{path.parent}: {path.name} is missing: {error.strerror}") from error
    if hashlib.sha256(content).hexdigest() != digest:
        raise ArtifactError(damaged(path))
    return load(content)


def tensor_names(files: Iterable[Path]) -> list[str]:
    """Return the names of the tensors in safetensors files."""
    names: list[str] = []
    for path in files:
        with safe_open(path, framework="pt") as file:
            names += file.keys()
    return names
