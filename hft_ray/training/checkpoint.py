"""Checkpoints of a running trial: written whole or not at all, verified when read.

A checkpoint is a folder ``step-00000040`` with safetensors files and ``manifest.json``, which names
every file with its SHA-256 and has one of its own. It is written beside its place and renamed into
it last, so a crash leaves the earlier ones as they were. Tensors are whole, whatever the ZeRO stage
and the number of ranks: a run may go on with another number. A mirror, where there is one,
has a copy of each, for the day when the folder is lost.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from hft_ray.mirror import Mirror, MirrorError
from hft_ray.selection import Draw
from hft_ray.strict_json import dumps_exact, loads_exact

VERSION = 3
RANDOM = "random/"
"""Prefix of the tensors that hold the ranks' random states."""
STAGE = "stage/"
"""Prefix of the tensors that a stage's objective keeps."""
_MANIFEST = "manifest.json"
CHECKPOINT_FILES = re.compile(
    r"[^/]+/(step-\d{8}|\.partial-[^/]+)/(manifest\.json|state-\d{5}\.safetensors)"
)
"""The files of checkpoints, and of one half written, as paths that begin with their folder's."""
_OTHERWISE = "give another --out folder, or delete the checkpoints to start afresh"
_SHARD_BYTES = 1 << 30


class CheckpointError(RuntimeError):
    """A checkpoint that cannot be used; the message says which and why."""


@dataclass(frozen=True)
class Manifest:
    """What a checkpoint is of, and what is not a tensor.

    Attributes:
        step: Optimizer steps made.
        model: Hash of the base weights.
        data: Hash of the training set.
        settings: The settings that decide the course of the run.
        selection: SHA-256 of the names that are trained.
        parameters: These names.
        round: Number of the draw.
        history: What the draw depended on: ``times_drawn`` and ``measures`` (unit -> number).
        touched: Names of the parameters that any draw so far has trained.
        steps: Parameter -> steps that its moments have seen.
        rounds: The draws so far, as in ``result.json``.
        variants: Models scored on the way, as in ``result.json``.
        sequence: What was scored before and after the tasks so far.
        losses: Losses of the steps since the last report, by name.
        seconds: Wall time so far.
        ranks: Number of processes that wrote it.
        scored: The last report with scores, ``step`` and ``values``, if there was one.
    """

    step: int
    model: str
    data: str
    settings: dict[str, Any]
    selection: str
    parameters: list[str]
    round: int
    history: dict[str, dict[str, Any]]
    touched: list[str]
    steps: dict[str, int]
    rounds: list[dict[str, Any]]
    variants: list[dict[str, Any]]
    sequence: list[dict[str, Any]]
    losses: list[dict[str, float]]
    seconds: float
    ranks: int
    scored: dict[str, Any] | None = None
    version: int = VERSION


def write(
    folder: Path,
    manifest: Manifest,
    tensors: Iterable[tuple[str, Tensor]],
    keep: int,
    mirror: Mirror | None = None,
) -> Path:
    """Write a checkpoint and delete all but it and the newest before it, ``keep`` in all.

    Args:
        folder: Folder of the run's checkpoints.
        manifest: What is not a tensor.
        tensors: Name -> whole CPU tensor; consumed as it is written, a gigabyte at a time.
        keep: Checkpoints to keep, this one included.
        mirror: Where the same ones are kept once more.

    Raises:
        MirrorError: The mirror did not take it; the folder has it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.glob(".partial-*"):
        shutil.rmtree(left, ignore_errors=True)
    target = folder / f"step-{manifest.step:08d}"
    partial = Path(tempfile.mkdtemp(dir=folder, prefix=".partial-"))
    content = {**asdict(manifest), "files": write_tensors(partial, tensors)}
    with (partial / _MANIFEST).open("w", encoding="utf-8") as file:
        file.write(dumps_exact({**content, "sha256": _digest(content)}))
        file.flush()
        os.fsync(file.fileno())
    shutil.rmtree(target, ignore_errors=True)
    partial.replace(target)
    # A later step was written before and is damaged, or the run would have gone on from there.
    found = checkpoints(folder)
    for old in found[: found.index(target)] + found[found.index(target) + keep :]:
        shutil.rmtree(old, ignore_errors=True)
    if mirror is not None:
        mirror.put(target, target.name)
        for name in set(mirror.names()) - {path.name for path in checkpoints(folder)}:
            mirror.delete(name)
    return target


def write_tensors(folder: Path, tensors: Iterable[tuple[str, Tensor]]) -> dict[str, str]:
    """Write tensors to safetensors files, a gigabyte at a time; return file name -> SHA-256."""
    return {name: _write_shard(folder / name, shard) for name, shard in _shards(tensors)}


def _digest(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _shards(tensors: Iterable[tuple[str, Tensor]]) -> Iterator[tuple[str, dict[str, Tensor]]]:
    shard: dict[str, Tensor] = {}
    number = size = 0
    for name, tensor in tensors:
        shard[name] = tensor.contiguous()
        size += tensor.numel() * tensor.element_size()
        if size >= _SHARD_BYTES:
            yield f"state-{number:05d}.safetensors", shard
            shard, number, size = {}, number + 1, 0
    if shard:
        yield f"state-{number:05d}.safetensors", shard


def _write_shard(path: Path, shard: dict[str, Tensor]) -> str:
    save_file(shard, path)
    with path.open("rb") as file:
        os.fsync(file.fileno())
        return hashlib.file_digest(file, "sha256").hexdigest()


def checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints in ``folder``, newest first; they may be damaged."""
    return sorted(folder.glob("step-*"), reverse=True)


def read(path: Path) -> tuple[Manifest, list[Path]]:
    """Return the manifest of a checkpoint and its tensor files, verified.

    Raises:
        CheckpointError: A file is missing, cut short or changed.
    """
    try:
        content = loads_exact((path / _MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: {_MANIFEST} cannot be read: {error}") from error
    if not isinstance(content, dict) or content.pop("sha256", None) != _digest(content):
        raise CheckpointError(f"{path}: {_MANIFEST} is damaged: its checksum is not its own")
    if content["version"] != VERSION:
        raise CheckpointError(f"{path}: version {content['version']}, but {VERSION} is needed")
    files: dict[str, str] = content.pop("files")
    verify(path, files)
    return Manifest(**content), [path / name for name in files]


def verify(path: Path, files: dict[str, str]) -> None:
    """Raise :class:`CheckpointError` unless ``path`` has these files, with these SHA-256."""
    for name, digest in files.items():
        if Path(name).name != name:
            raise CheckpointError(f"{path}: {name} is no file in it")
        try:
            with (path / name).open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise CheckpointError(f"{path}: {name} is missing: {error.strerror}") from error
        if found != digest:
            raise CheckpointError(f"{path}: {name} is damaged: its checksum is not the manifest's")


def newest_whole(folder: Path, mirror: Mirror | None = None) -> tuple[Path | None, list[str]]:
    """Return the newest checkpoint that is whole, and what is wrong with the newer ones.

    One that only the mirror has whole is fetched into the folder.

    Raises:
        MirrorError: The mirror does not answer, and the folder has nothing to go on from.
    """
    found, problems = _newest_in(folder)
    if mirror is None:
        return found, problems
    try:
        names = mirror.names()
    except MirrorError as error:
        if found is None:
            raise
        return found, [*problems, str(error)]
    for name in sorted(names, reverse=True):
        if found is not None and name <= found.name:
            break
        try:
            mirror.get(name, folder / name)
            read(folder / name)
        except (MirrorError, CheckpointError) as error:
            problems.append(str(error))
        else:
            return folder / name, problems
    return found, problems


def _newest_in(folder: Path) -> tuple[Path | None, list[str]]:
    problems: list[str] = []
    for path in checkpoints(folder):
        try:
            read(path)
        except CheckpointError as error:
            problems.append(str(error))
        else:
            return path, problems
    return None, problems


def tensors_of(files: Iterable[Path], beside: bool) -> Iterator[tuple[str, Tensor]]:
    """Yield a checkpoint's tensors one at a time: those of the engine, or all beside them."""
    yield from read_tensors(files, lambda name: name.startswith((RANDOM, STAGE)) == beside)


def read_tensors(
    files: Iterable[Path], wanted: Callable[[str], bool] = lambda name: True
) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors in safetensors files whose names are wanted, one at a time."""
    for path in files:
        with safe_open(path, framework="pt", device="cpu") as file:
            for name in file.keys():  # noqa: SIM118 - no mapping
                if wanted(name):
                    yield name, file.get_tensor(name)


def refuse_other(path: Path, found: Manifest, model: str, data: str, now: dict[str, Any]) -> None:
    """Raise :class:`CheckpointError` when a checkpoint is of another run than this one.

    Args:
        path: The checkpoint.
        found: What it is of.
        model: Hash of this run's base weights.
        data: Hash of its training set.
        now: Its settings.
    """
    pairs = (("base model", found.model, model), ("training set", found.data, data))
    problems = [
        f"another {what} ({was[:12]}, this run has {is_now[:12]})"
        for what, was, is_now in pairs
        if was != is_now
    ]
    problems += [
        f"another {key} ({found.settings.get(key)}, this run has {now.get(key)})"
        for key in sorted(found.settings.keys() | now.keys())
        if found.settings.get(key) != now.get(key)
    ]
    if problems:
        raise CheckpointError(f"{path} is of {', '.join(problems)}; {_OTHERWISE}")


def refuse_other_draw(path: Path, found: Manifest, drawn: Draw) -> None:
    """Raise :class:`CheckpointError` when a checkpoint trains another selection than ``drawn``."""
    if found.selection != drawn.hash:
        only = sorted(set(found.parameters) ^ set(drawn.parameters))[:5]
        raise CheckpointError(
            f"{path} is of another selection ({found.selection[:12]}, this run has "
            f"{drawn.hash[:12]}); trained in one of them alone: {', '.join(only)}; {_OTHERWISE}"
        )


def random_state(device: torch.device) -> Tensor:
    """Return this process's random state, for dropout."""
    if device.type == "cuda":
        return torch.cuda.get_rng_state(device)
    return torch.get_rng_state()


def set_random_state(device: torch.device, state: Tensor) -> None:
    """Put a random state back."""
    if device.type == "cuda":
        torch.cuda.set_rng_state(state, device)
    else:
        torch.set_rng_state(state)
