"""Checkpoints of a running trial.

A checkpoint is an artifact: a folder ``step-00000040`` with safetensors files and
``manifest.json``. Its tensors are whole, whatever the ZeRO stage and the number of ranks, so a run
may go on with another number of them. A mirror, where there is one, has a copy of each checkpoint.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from hft_ray.artifacts import (
    ArtifactError,
    FileName,
    Manifest,
    Mirror,
    MirrorError,
    delete_partial,
    new_folder,
    newest_whole,
    verify,
)
from hft_ray.selection import Draw
from hft_ray.training.tensor_files import read_tensors, write_tensors

RANDOM = "random/"
"""Prefix of the tensors that hold the ranks' random states."""
STAGE = "stage/"
"""Prefix of the tensors that a stage's objective keeps."""
MANIFEST = "manifest.json"
CHECKPOINT_FILES = re.compile(
    r"[^/]+/(step-\d{8}|\.partial-[^/]+)/(manifest\.json|state-\d{5}\.safetensors)"
)
"""The files of checkpoints, and of one half written, as paths that begin with their folder's."""
_OTHERWISE = "give another --out folder, or delete the checkpoints to start afresh"


class CheckpointError(ArtifactError):
    """A checkpoint of another run; the message says what differs."""


class CheckpointManifest(Manifest):
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

    signed: ClassVar[bool] = True
    files: dict[FileName, str] = Field(default_factory=dict)
    version: Literal[3] = 3
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


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint on disk that is whole.

    Attributes:
        path: Its folder.
        manifest: What it is of.
    """

    path: Path
    manifest: CheckpointManifest

    @classmethod
    def read(cls, path: Path) -> Checkpoint:
        """Return the checkpoint in a folder; reads all of it.

        Raises:
            ArtifactError: A file is missing, cut short or changed.
        """
        manifest = CheckpointManifest.read(path / MANIFEST)
        verify(path, manifest.files)
        return cls(path, manifest)

    def tensors(self, beside: bool) -> Iterator[tuple[str, Tensor]]:
        """Yield the tensors one at a time: those of the engine, or all ``beside`` them."""
        files = (self.path / name for name in self.manifest.files)
        return read_tensors(files, lambda name: name.startswith((RANDOM, STAGE)) == beside)

    def refuse_other_run(self, model: str, data: str, now: dict[str, Any]) -> None:
        """Refuse a run that this checkpoint is not of.

        Args:
            model: Hash of the run's base weights.
            data: Hash of its training set.
            now: Its settings.

        Raises:
            CheckpointError: It names all that differs.
        """
        found = self.manifest
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
            raise CheckpointError(f"{self.path} is of {', '.join(problems)}; {_OTHERWISE}")

    def refuse_other_draw(self, drawn: Draw) -> None:
        """Refuse a run that trains another selection.

        Raises:
            CheckpointError: It names the first parameters that only one of them trains.
        """
        found = self.manifest
        if found.selection != drawn.hash:
            only = sorted(set(found.parameters) ^ set(drawn.parameters))[:5]
            raise CheckpointError(
                f"{self.path} is of another selection ({found.selection[:12]}, this run has "
                f"{drawn.hash[:12]}); trained in one of them alone: {', '.join(only)}; {_OTHERWISE}"
            )


def write_checkpoint(
    folder: Path,
    manifest: CheckpointManifest,
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
    delete_partial(folder)
    target = folder / f"step-{manifest.step:08d}"
    with new_folder(target, replace=True) as written:
        files = write_tensors(written, tensors)
        manifest.model_copy(update={"files": files}).write(written / MANIFEST)
    # A later step was written before and is damaged, or the run would have gone on from there.
    found = checkpoints(folder)
    for old in found[: found.index(target)] + found[found.index(target) + keep :]:
        shutil.rmtree(old, ignore_errors=True)
    if mirror is not None:
        mirror.put(target, target.name)
        for name in set(mirror.names()) - {path.name for path in checkpoints(folder)}:
            mirror.delete(name)
    return target


def checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints in ``folder``, newest first; they may be damaged."""
    return sorted(folder.glob("step-*"), reverse=True)


def newest_checkpoint(
    folder: Path, mirror: Mirror | None = None
) -> tuple[Checkpoint | None, list[str]]:
    """Return the newest checkpoint that is whole, and what is wrong with the newer ones.

    One that only the mirror has whole is fetched into the folder.

    Raises:
        MirrorError: The mirror does not answer, and the folder has nothing to go on from.
    """
    found, problems = newest_whole(checkpoints(folder), Checkpoint.read)
    if mirror is None:
        return found, problems
    try:
        names = mirror.names()
    except MirrorError as error:
        if found is None:
            raise
        return found, [*problems, str(error)]
    newer = [name for name in names if found is None or name > found.path.name]
    fetch = partial(_fetch, folder, mirror)
    copied, damaged = newest_whole(sorted(newer, reverse=True), fetch)
    return copied or found, problems + damaged


def _fetch(folder: Path, mirror: Mirror, name: str) -> Checkpoint:
    mirror.get(name, folder / name)
    return Checkpoint.read(folder / name)


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
