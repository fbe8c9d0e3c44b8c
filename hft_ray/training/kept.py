"""The weights of a model of a run, kept for export: what any draw has trained, and nothing else.

An artifact of safetensors files and ``kept.json``. What is not in it has the base's values.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from hft_ray.artifacts import FileName, Manifest, delete_partial, new_folder, verify
from hft_ray.ranks import Ranks
from hft_ray.training.partitioned import gathered
from hft_ray.training.tensor_files import read_tensors, tensor_names, write_tensors

MANIFEST = "kept.json"
_HEADER_BYTES = 256
"""More than what a file says of one tensor, or kept.json of one file."""


class KeptManifest(Manifest):
    """Content of kept.json.

    Attributes:
        base: Hash of the base weights.
        dtype: Element type that the model was trained and scored in, such as ``bfloat16``.
    """

    files: dict[FileName, str]
    format: Literal[1] = 1
    base: str
    dtype: str


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
        delete_partial(folder.parent)
        # Before the new one is written: the budget has room for one of them.
        shutil.rmtree(folder, ignore_errors=True)
        with new_folder(folder) as written:
            files = write_tensors(written, tensors)
            KeptManifest(base=base, dtype=dtype, files=files).write(written / MANIFEST)
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


def read_kept(folder: Path) -> KeptManifest:
    """Return what was kept in ``folder``, its files verified.

    Raises:
        ArtifactError: Nothing was kept there, or it is damaged.
    """
    found = KeptManifest.read(folder / MANIFEST)
    verify(folder, found.files)
    return found


def kept_names(folder: Path, kept: KeptManifest) -> list[str]:
    """Return the names of the parameters that are kept in ``folder``."""
    return tensor_names(folder / each for each in kept.files)


def put_kept(model: Any, folder: Path, kept: KeptManifest) -> None:
    """Give ``model``, the base in the kept element type, the weights kept in ``folder``."""
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name, tensor in read_tensors(folder / each for each in kept.files):
            parameters[name].copy_(tensor)
