"""The weights of a candidate, kept for export: what any draw has trained, and nothing else.

A folder of safetensors files and ``kept.json``, which names each file with its SHA-256, written
whole or not at all. What is not in it has the base's values.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ValidationError
from torch import Tensor, nn

from hft_ray.ranks import Ranks
from hft_ray.training.checkpoint import CheckpointError, read_tensors, verify, write_tensors
from hft_ray.training.engine import gathered

MANIFEST = "kept.json"


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
        folder: What is there is replaced.
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
        partial = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
        try:
            files = write_tensors(partial, tensors)
            content = Kept(base=base, dtype=dtype, files=files).model_dump_json()
            (partial / MANIFEST).write_text(content, encoding="utf-8")
            shutil.rmtree(folder, ignore_errors=True)
            partial.replace(folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    ranks.barrier()


def _whole(model: nn.Module, names: Collection[str]) -> Iterator[tuple[str, Tensor]]:
    for name, parameter in model.named_parameters():
        if name in names:
            with gathered([parameter]):
                yield name, parameter.detach().to("cpu", copy=True)


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


def put_kept(model: Any, folder: Path) -> None:
    """Give ``model``, the base in the kept element type, the kept weights."""
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name, tensor in read_tensors(folder / each for each in read_kept(folder).files):
            parameters[name].copy_(tensor)
