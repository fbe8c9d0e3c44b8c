"""Writing a model directory: whole or not at all, one tensor at a time."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from torch import Tensor

from hft_ray.artifacts import new_folder
from hft_ray.out_folder import check_new
from hft_ray.training.directory import INDEX, SINGLE
from hft_ray.weight_space import as_bytes
from hft_ray.weights.model_files import Entry, ModelFiles

_WEIGHTS = (
    ".safetensors",
    ".bin",
    ".pt",
    ".pth",
    ".ckpt",
    ".gguf",
    ".h5",
    ".msgpack",
    ".onnx",
    ".index.json",
)
_TEMPLATES = "additional_chat_templates"


class TensorWriter:
    """Writes a safetensors file without holding more than one tensor.

    The header stands before the data, and its content is known only after it: room is kept for
    it, and what it does not fill is padded with spaces, as the format allows.
    """

    def __init__(self, path: Path, header_bytes: int, metadata: Mapping[str, str]) -> None:
        """Open ``path``; the header may take up to ``header_bytes``."""
        self._file = path.open("wb")
        self._room = header_bytes
        self._header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
        self._offset = 0
        self._file.write(bytes(8 + header_bytes))

    def add(self, entry: Entry, tensor: Tensor) -> None:
        """Append ``tensor``, whose name, element type and shape are those of ``entry``."""
        data = as_bytes(tensor)
        assert tuple(tensor.shape) == entry.shape
        end = self._offset + data.numel()
        self._header[entry.name] = {
            "dtype": entry.dtype,
            "shape": list(entry.shape),
            "data_offsets": [self._offset, end],
        }
        self._file.write(data.numpy().data)
        self._offset = end

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._file:
            if kind is not None:
                return
            header = json.dumps(self._header, separators=(",", ":"), ensure_ascii=False).encode()
            assert len(header) <= self._room
            self._file.seek(0)
            self._file.write(self._room.to_bytes(8, "little") + header.ljust(self._room))


@contextmanager
def new_model(out: Path) -> Iterator[Path]:
    """Yield a folder that becomes ``out`` when the block ends without an error.

    Raises:
        ConfigError: There is something at ``out`` already, or it cannot be made.
    """
    check_new(out, {})
    with new_folder(out.resolve()) as written:
        yield written


def copy_others(source: Path, target: Path, but: str = "") -> None:
    """Copy what a model directory holds beside weights and the file ``but``.

    These are its configurations, tokenizer, templates and whatever else lies at its top.
    """
    for path in source.iterdir():
        hidden = path.name.startswith(".") or path.name == but
        if path.is_file() and not hidden and not path.name.endswith(_WEIGHTS):
            shutil.copyfile(path, target / path.name)
    if (source / _TEMPLATES).is_dir():
        shutil.copytree(source / _TEMPLATES, target / _TEMPLATES)


def rewrite(source: ModelFiles, out: Path, tensor: Callable[[str], Tensor]) -> None:
    """Write a model directory like ``source``, in the same files, with other values.

    Args:
        source: Gives file names, index, the order, element types and shapes of tensors, and all
            files that are not weights.
        out: The directory to make.
        tensor: Gives a tensor's value by its name; in the element type and shape of ``source``.

    Raises:
        ConfigError: There is something at ``out`` already.
    """
    with new_model(out) as written:
        copy_others(source.folder, written)
        if source.files[0].path.name != SINGLE:
            shutil.copyfile(source.folder / INDEX, written / INDEX)
        for file in source.files:
            target = written / file.path.name
            with TensorWriter(target, file.header_bytes, file.metadata) as writer:
                for entry in file.entries:
                    writer.add(entry, tensor(entry.name))
        source.close()
