"""Checkpoints of a running trial.

A checkpoint is an artifact: a folder ``step-00000040`` with safetensors files and
``manifest.json``. Every rank writes files with parts of the tensors (see ``tensor_parts``), of
which any number of ranks with any ZeRO stage makes what each of them holds. A mirror, where there
is one, has a copy of each checkpoint.

``torch.distributed.checkpoint`` also writes in parts. It describes them in a pickle, which must not
be loaded from a folder that others may write to, and has no checksums.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from hft_ray.artifacts import ArtifactError, FileName, Manifest
from hft_ray.selection import Draw

RANDOM = "random/"
"""Prefix of the tensors that hold the ranks' random states."""
STAGE = "stage/"
"""Prefix of the tensors that a stage's objective keeps."""
MANIFEST = "manifest.json"
CHECKPOINT_FILES = re.compile(
    r"[^/]+/(step-\d{8}|\.partial-[^/]+)/(manifest\.json|state(-\d{5}){1,2}\.safetensors)"
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
    version: Literal[3, 4] = 4
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
    """A checkpoint that is whole.

    Attributes:
        path: Its folder.
        manifest: What it is of.
        state: What this rank needs of the engine's tensors: name -> flattened numbers.
        beside: All other tensors: the random states and what the stage's objective keeps.
    """

    path: Path
    manifest: CheckpointManifest
    state: dict[str, Tensor]
    beside: dict[str, Tensor]

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


def checkpoint_name(step: int) -> str:
    """Return the name of the checkpoint after so many steps; newer ones sort later."""
    return f"step-{step:08d}"


def checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints in ``folder``, newest first; they may be damaged."""
    return sorted(folder.glob("step-*"), reverse=True)


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
