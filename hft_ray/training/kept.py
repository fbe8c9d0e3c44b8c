"""The weights of a candidate, kept for export: what any draw has trained, and nothing else.

A folder of safetensors files and ``kept.json``, which names each file with its SHA-256, written
whole or not at all. What is not in it has the base's values.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ValidationError
from safetensors import safe_open
from torch import Tensor, nn

from hft_ray.ranks import Ranks
from hft_ray.training.checkpoint import CheckpointError, read_tensors, verify, write_tensors
from hft_ray.training.engine import gathered

MANIFEST = "kept.json"
_HEADER_BYTES = 256
"""More than what a file says of one tensor, or kept.json of one file."""


@dataclass(frozen=True)
class Budget:
    """What the kept weights of all trials of a sweep may take on disk.

    Attributes:
        folder: All of them.
        bytes: The most that they may take.
        spare: How many trials write at the same time.
    """

    folder: Path
    bytes: int
    spare: int


class Kept(BaseModel):
    """Content of kept.json.

    Attributes:
        base: Hash of the base weights.
        dtype: Element type that the model was trained and scored in, such as ``bfloat16``.
        files: File name -> SHA-256.
    """

    format: Literal[1] = 1
    base: str
    dtype: str
    files: dict[str, str]


def keep(folder: Path, model: nn.Module, names: Collection[str], base: str, ranks: Ranks) -> None:
    """Write the parameters ``names`` of ``model`` to ``folder`` (a collective).

    Args:
        folder: What is there, or was left half written beside it, is deleted first.
        model: The model, whole or partitioned by ZeRO-3.
        names: Parameters that may differ from the base.
        base: Hash of the base weights.
        ranks: The processes that train together; rank 0 writes.
    """
    tensors = _whole(model, names)
    dtype = str(next(model.parameters()).dtype).removeprefix("torch.")
    if not ranks.main:
        for _ in tensors:
            pass
    else:
        folder.parent.mkdir(parents=True, exist_ok=True)
        for left in (folder, *folder.parent.glob(".*")):
            shutil.rmtree(left, ignore_errors=True)
        partial = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
        try:
            files = write_tensors(partial, tensors)
            content = Kept(base=base, dtype=dtype, files=files).model_dump_json()
            (partial / MANIFEST).write_text(content, encoding="utf-8")
            partial.replace(folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    ranks.barrier()


def _whole(model: nn.Module, names: Collection[str]) -> Iterator[tuple[str, Tensor]]:
    for name, parameter in model.named_parameters():
        if name in names:
            with gathered([parameter]):
                yield name, parameter.detach().to("cpu", copy=True)


def bytes_to_keep(model: Any, names: Collection[str]) -> int:
    """Return the bytes that :func:`keep` takes on disk, a little more for the headers."""
    parameters = dict(model.named_parameters())
    # Under ZeRO-3 a parameter at rest is an empty vector; its size is kept aside.
    sizes = (
        getattr(parameters[name], "ds_numel", parameters[name].numel())
        * parameters[name].element_size()
        + _HEADER_BYTES
        for name in names
    )
    return sum(sizes) + 4 * _HEADER_BYTES


def size_of(folder: Path) -> int:
    """Return the bytes of the files in ``folder``, 0 if it is not there."""
    found = 0
    # os.walk passes over what another process deletes meanwhile.
    for place, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):
                found += Path(place, name).stat().st_size
    return found


def read_kept(folder: Path) -> Kept:
    """Return what was kept in ``folder``, its files verified.

    Raises:
        CheckpointError: Nothing was kept there, or it is damaged.
    """
    try:
        found = Kept.model_validate_json((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValidationError) as error:
        raise CheckpointError(f"{folder}: {MANIFEST} cannot be read: {error}") from error
    verify(folder, found.files)
    return found


def kept_names(folder: Path, kept: Kept) -> list[str]:
    """Return the names of the parameters that are kept in ``folder``."""
    names: list[str] = []
    for each in kept.files:
        with safe_open(folder / each, framework="pt") as file:
            names += file.keys()
    return names


def put_kept(model: Any, folder: Path, kept: Kept) -> None:
    """Give ``model``, the base in the kept element type, the weights kept in ``folder``."""
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name, tensor in read_tensors(folder / each for each in kept.files):
            parameters[name].copy_(tensor)
