"""A delta: of a tuned model only the tensors that differ from its base, and the way back.

A delta directory holds ``delta.json`` (see :class:`DeltaManifest`) and the configuration and
tokenizer as they are. For each file of the tuned model, ``delta/`` has one of the same name with
the tensors that differ. A tensor is left out where the base's, in the tuned model's element type,
has the same bits: so frozen matrices of a model that was tuned in bf16 from an fp32 base are left
out too.
"""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel
from torch import Tensor

from hft_ray.artifacts import ArtifactError, FileName, Manifest
from hft_ray.config import ConfigError, Problem
from hft_ray.training.directory import INDEX
from hft_ray.weight_space import as_bytes, same_bits
from hft_ray.weights.model_files import (
    Entry,
    ModelFiles,
    TensorReader,
    in_dtype,
    names_in_short,
    read_header,
)
from hft_ray.weights.pairing import Pairs, pair
from hft_ray.weights.writing import TensorWriter, copy_others, new_model

MANIFEST = "delta.json"
TENSORS = "delta"


class TensorRecord(BaseModel):
    """One tensor of the tuned model."""

    dtype: str
    shape: tuple[int, ...]
    sha256: str
    """Of its bytes."""
    bytes: int
    """Their number."""
    base: str | None
    """The base's tensor that it equals, None if it is stored in the delta."""


class FileRecord(BaseModel):
    """One file of the tuned model; its tensors in the order of their data."""

    header_bytes: int
    metadata: dict[str, str]
    tensors: dict[str, TensorRecord]


class DeltaManifest(Manifest):
    """Content of delta.json."""

    files: dict[FileName, FileRecord]
    format: Literal[1] = 1
    base: dict[str, str]
    """SHA-256 of every tensor of the base."""


@dataclass(frozen=True)
class Delta:
    """How much of a tuned model a delta stores.

    Attributes:
        tensors: Tensors of the tuned model.
        stored_tensors: Of these, how many the delta holds; the others are the base's.
        bytes: Size of all tensors.
        stored_bytes: Size of those that the delta holds.
    """

    tensors: int
    stored_tensors: int
    bytes: int
    stored_bytes: int


def write_delta(tuned: Path, base: Path, out: Path) -> Delta:
    """Write what differs between the model directories ``tuned`` and ``base`` to ``out``.

    Raises:
        ConfigError: The two are models of different types, or ``out`` exists.
    """
    models = ModelFiles(tuned, "TUNED"), ModelFiles(base, "BASE")
    pairs = pair(*models)
    hashes = _Hashes(models[1])
    files: dict[str, FileRecord] = {}
    with new_model(out) as written:
        copy_others(tuned, written)
        (written / TENSORS).mkdir()
        if (tuned / INDEX).is_file():
            shutil.copyfile(tuned / INDEX, written / TENSORS / INDEX)
        for file in models[0].files:
            path = written / TENSORS / file.path.name
            record = FileRecord(header_bytes=file.header_bytes, metadata=file.metadata, tensors={})
            with TensorWriter(path, file.header_bytes, file.metadata) as writer:
                for entry in file.entries:
                    record.tensors[entry.name] = _store(entry, models[0], hashes, pairs, writer)
            if all(each.base is not None for each in record.tensors.values()):
                path.unlink()
            files[file.path.name] = record
        manifest = DeltaManifest(files=files, base=hashes.all())
        manifest.write(written / MANIFEST)
    return _summary(manifest)


def _store(
    entry: Entry, tuned: ModelFiles, base: _Hashes, pairs: Pairs, writer: TensorWriter
) -> TensorRecord:
    """Record a tensor, and store it if it is not the base's."""
    theta = tuned.read(entry.name)
    partner = pairs[entry.name]
    if partner is not None and not same_bits(theta, in_dtype(base.read(partner), entry.dtype)):
        partner = None
    if partner is None:
        writer.add(entry, theta)
    return TensorRecord(
        dtype=entry.dtype,
        shape=entry.shape,
        sha256=_sha256(theta),
        bytes=theta.numel() * theta.element_size(),
        base=partner,
    )


def apply_delta(delta: Path, base: Path, out: Path) -> Delta:
    """Write the tuned model to ``out``: its tensors are those that it was made from, to the bit.

    Raises:
        ConfigError: ``base`` is not the one that the delta was made from, the delta is truncated
            or damaged, or ``out`` exists.
    """
    manifest = _read_manifest(delta)
    _check_stored(delta, manifest)
    model = ModelFiles(base, "BASE")
    if model.entries.keys() != manifest.base.keys():
        others = model.entries.keys() ^ manifest.base.keys()
        raise _wrong_base(model, f"only one of them has {names_in_short(others)}")
    hashes = _Hashes(model, manifest.base)
    with new_model(out) as written:
        copy_others(delta, written, but=MANIFEST)
        if (delta / TENSORS / INDEX).is_file():
            shutil.copyfile(delta / TENSORS / INDEX, written / INDEX)
        for name, file in manifest.files.items():
            with TensorWriter(written / name, file.header_bytes, file.metadata) as writer:
                _restore(file, delta / TENSORS / name, hashes, writer)
        # What the delta overrides must be the right base's, too: the whole base is checked.
        hashes.all()
    return _summary(manifest)


def _restore(file: FileRecord, stored: Path, base: _Hashes, writer: TensorWriter) -> None:
    """Write one file of the tuned model from the delta's file ``stored`` and the base."""
    reader = TensorReader()
    for name, record in file.tensors.items():
        if record.base is None:
            tensor = reader.read(stored, name)
        else:
            tensor = in_dtype(base.read(record.base), record.dtype)
        if _sha256(tensor) != record.sha256:
            raise _damaged(stored.parent.parent, f"tensor {name} is not the one that was written")
        writer.add(Entry(name, record.dtype, record.shape), tensor)


class _Hashes:
    """Reads the tensors of a base, keeps their SHA-256 and compares them with known ones."""

    def __init__(self, base: ModelFiles, known: dict[str, str] | None = None) -> None:
        self._base = base
        self._known = known
        self._found: dict[str, str] = {}

    def read(self, name: str) -> Tensor:
        """Return a tensor of the base.

        Raises:
            ConfigError: It is not the known one.
        """
        tensor = self._base.read(name)
        if name not in self._found:
            self._found[name] = _sha256(tensor)
            if self._known is not None and self._known[name] != self._found[name]:
                raise _wrong_base(self._base, f"tensor {name} has another SHA-256")
        return tensor

    def all(self) -> dict[str, str]:
        """Return the SHA-256 of every tensor, those that have not been read included."""
        for name in self._base.entries:
            if name not in self._found:
                self.read(name)
        return self._found


def _read_manifest(delta: Path) -> DeltaManifest:
    if not (delta / MANIFEST).is_file():
        problem = f"is not a delta: it has no {MANIFEST}; hft-ray export --delta writes one"
        raise ConfigError(Problem("DELTA", problem, str(delta)))
    try:
        return DeltaManifest.read(delta / MANIFEST)
    except ArtifactError as error:
        raise ConfigError(Problem("DELTA", str(error))) from error


def _check_stored(delta: Path, manifest: DeltaManifest) -> None:
    """Refuse a delta whose files are truncated or lack tensors, before anything is written."""
    for name, file in manifest.files.items():
        stored = {key: each for key, each in file.tensors.items() if each.base is None}
        if not stored:
            continue
        found = {each.name: each for each in read_header(delta / TENSORS / name, "DELTA").entries}
        for key, record in stored.items():
            entry = found.get(key)
            if entry is None or (entry.dtype, entry.shape) != (record.dtype, record.shape):
                raise _damaged(delta, f"{name} does not hold {key} as {MANIFEST} says")


def _summary(manifest: DeltaManifest) -> Delta:
    records = [each for file in manifest.files.values() for each in file.tensors.values()]
    stored = [each.bytes for each in records if each.base is None]
    return Delta(len(records), len(stored), sum(each.bytes for each in records), sum(stored))


def _sha256(tensor: Tensor) -> str:
    return hashlib.sha256(as_bytes(tensor).numpy().data).hexdigest()


def _damaged(delta: Path, what: str) -> ConfigError:
    return ConfigError(Problem("DELTA", f"is damaged; {what}", str(delta)))


def _wrong_base(base: ModelFiles, what: str) -> ConfigError:
    problem = f"is not the model that the delta was made from: {what}"
    return ConfigError(Problem(base.what, problem, str(base.folder)))
