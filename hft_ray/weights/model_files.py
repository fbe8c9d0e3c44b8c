"""The tensors of a Hugging Face model directory, read one at a time."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from hft_ray.config import ConfigError, Problem
from hft_ray.training.directory import INDEX, SINGLE

_LENGTH = 8
"""A safetensors file begins with the length of its header, in so many bytes, then the header."""

MOST_MAPPED = 1 << 28
"""Bytes that are read of a file before it is closed and opened again."""
_FLOATS = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
}


@dataclass(frozen=True)
class Entry:
    """What the header of a safetensors file says of one tensor.

    Attributes:
        name: Key of the tensor.
        dtype: Element type in the format's spelling (F32, BF16, ...).
        shape: Sizes of its dimensions.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def elements(self) -> int:
        """Number of elements."""
        count = 1
        for size in self.shape:
            count *= size
        return count


@dataclass(frozen=True)
class TensorFile:
    """One safetensors file.

    Attributes:
        path: Where it lies.
        header_bytes: Length of its header.
        metadata: The strings that its header carries beside the tensors.
        entries: Its tensors in the order of their data, so that one read after another is a
            sequential read.
    """

    path: Path
    header_bytes: int
    metadata: dict[str, str]
    entries: tuple[Entry, ...]


def read_header(path: Path, what: str) -> TensorFile:
    """Read what a safetensors file holds; ``what`` names it in errors.

    Raises:
        ConfigError: There is no such file, or it is truncated or damaged.
    """
    try:
        # The library checks that header and data fit together and reach the end of the file.
        with safe_open(path, framework="pt"), path.open("rb") as file:
            length = int.from_bytes(file.read(_LENGTH), "little")
            header: dict[str, Any] = json.loads(file.read(length))
    except OSError as error:
        problem = f"{path.name} cannot be read: {error.strerror or error}"
        raise ConfigError(Problem(what, problem, str(path.parent))) from error
    except SafetensorError as error:
        problem = f"{path.name} is truncated or damaged ({error})"
        raise ConfigError(Problem(what, problem, str(path.parent))) from error
    metadata = header.pop("__metadata__", {})
    ordered = sorted(header.items(), key=lambda item: tuple(item[1]["data_offsets"]))
    entries = tuple(Entry(name, each["dtype"], tuple(each["shape"])) for name, each in ordered)
    return TensorFile(path, length, metadata, entries)


class ModelFiles:
    """A model directory as its files, their tensors and its configuration.

    Attributes:
        what: What the user calls it (TUNED, BASE), for errors.
        folder: The directory.
        files: Its files of tensors, in the order of their names.
        entries: Every tensor by name, file after file.
        config: Content of config.json.
    """

    def __init__(self, folder: Path, what: str) -> None:
        """Read the headers of the model in ``folder``.

        Raises:
            ConfigError: It is not a model directory, or its files are not whole.
        """
        self.what = what
        self.folder = folder
        self.config = _read_json(folder / "config.json", what)
        self.files = tuple(read_header(path, what) for path in self._paths())
        self._place = {entry.name: file.path for file in self.files for entry in file.entries}
        self.entries = {entry.name: entry for file in self.files for entry in file.entries}
        self._reader = TensorReader()

    def _paths(self) -> list[Path]:
        # The same choice as from_pretrained: other safetensors files may lie beside.
        if (self.folder / SINGLE).is_file():
            return [self.folder / SINGLE]
        if (self.folder / INDEX).is_file():
            index = _read_json(self.folder / INDEX, self.what)
            return [self.folder / name for name in sorted(set(index["weight_map"].values()))]
        problem = f"the directory has neither {SINGLE} nor {INDEX}"
        raise ConfigError(Problem(self.what, problem, str(self.folder)))

    def read(self, name: str) -> Tensor:
        """Return one tensor, mapped from its file, not copied: it is not to be changed."""
        return self._reader.read(self._place[name], name)

    def close(self) -> None:
        """Close the file that is open."""
        self._reader.close()


class TensorReader:
    """Reads tensors from safetensors files and keeps the latest file open, and only that one.

    What is read of a file stays in memory (as a mapping of the file) until it is closed: files of
    many gigabytes are closed in between, too.
    """

    def __init__(self) -> None:
        self._path: Path | None = None
        self._file: Any = None
        self._mapped = 0

    def read(self, path: Path, name: str) -> Tensor:
        """Return the tensor ``name`` of the file ``path``."""
        if path != self._path or self._mapped > MOST_MAPPED:
            self.close()
            self._file = safe_open(path, framework="pt")
            self._path = path
        tensor: Tensor = self._file.get_tensor(name)
        self._mapped += tensor.numel() * tensor.element_size()
        return tensor

    def close(self) -> None:
        """Close the file that is open."""
        self._path, self._file, self._mapped = None, None, 0


def in_dtype(tensor: Tensor, dtype: str) -> Tensor:
    """Return a floating-point tensor in another element type, in safetensors' spelling.

    A tensor that has it, or cannot be rounded to it, comes back as it is.
    """
    return tensor.to(_FLOATS[dtype]) if dtype in _FLOATS and tensor.is_floating_point() else tensor


def _read_json(path: Path, what: str) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        problem = f"{path.name} cannot be read: {error.strerror or error}"
        raise ConfigError(Problem(what, problem, str(path.parent))) from error
    except ValueError as error:
        raise ConfigError(Problem(what, f"{path.name} is damaged: {error}", str(path))) from error
    if not isinstance(content, dict):
        raise ConfigError(Problem(what, f"{path.name} is not a mapping", str(path)))
    return content


def names_in_short(names: Iterable[str], most: int = 8) -> str:
    """Return the first names, and how many more there are, for an error."""
    listed = sorted(names)
    more = f" and {len(listed) - most} more" if len(listed) > most else ""
    return ", ".join(listed[:most]) + more
