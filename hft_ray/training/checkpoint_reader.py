"""Reading checkpoints: every rank reads some of the files, and gets what it holds of the state."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from hft_ray.artifacts import ArtifactError, Mirror, MirrorError, newest_whole
from hft_ray.ranks import Ranks
from hft_ray.training.checkpoint import (
    MANIFEST,
    RANDOM,
    STAGE,
    Checkpoint,
    CheckpointManifest,
    checkpoints,
)
from hft_ray.training.tensor_files import read_verified
from hft_ray.training.tensor_parts import joined, part_name, place

T = TypeVar("T")


@dataclass(frozen=True)
class CheckpointReader:
    """Reads checkpoints for all ranks, each byte once in the whole group. Methods are collectives.

    Args:
        ranks: The processes that train together.
        device: Where tensors are when they go from rank to rank.
        spans: Parameter -> the places of what this rank needs among its flattened numbers; of a
            parameter that is not in it, all.
    """

    ranks: Ranks
    device: torch.device
    spans: Mapping[str, range] = field(default_factory=dict)

    def newest(self, folder: Path, mirror: Mirror | None) -> tuple[Checkpoint | None, list[str]]:
        """Return the newest checkpoint that is whole, and what is wrong with the newer ones.

        One that only the mirror has whole is fetched into the folder.

        Raises:
            MirrorError: The mirror does not answer, and the folder has nothing to go on from.
        """

        def look() -> tuple[list[tuple[str, Mirror | None]], MirrorError | None]:
            here = [(path.name, None) for path in checkpoints(folder)]
            try:
                there = [(name, mirror) for name in mirror.names()] if mirror else []
            except MirrorError as error:
                return [*here], error
            # Of the same step, that in the folder first.
            return sorted([*there, *here], key=lambda each: (each[0], each[1] is None))[::-1], None

        places, away = self._by_main(look)
        found, problems = newest_whole(places, lambda each: self._read_at(folder, *each))
        if away is not None:
            if found is None:
                raise away
            problems.append(str(away))
        return found, problems

    def _read_at(self, folder: Path, name: str, mirror: Mirror | None) -> Checkpoint:
        if mirror is not None:
            self._by_main(lambda: mirror.get(name, folder / name))
        return self.read(folder / name)

    def read(self, path: Path) -> Checkpoint:
        """Return the checkpoint in a folder.

        Raises:
            ArtifactError: A file is missing, cut short or changed; on every rank.
        """
        manifest = self._by_main(lambda: CheckpointManifest.read(path / MANIFEST))
        state: list[tuple[str, Tensor]] = []
        beside: dict[str, Tensor] = {}
        names = sorted(manifest.files)
        for first in range(0, len(names), self.ranks.size):
            turn = {name: manifest.files[name] for name in names[first : first + self.ranks.size]}
            for name, tensor in self._read_files(path, turn):
                if name.startswith((RANDOM, STAGE)):
                    beside[name] = tensor
                else:
                    state.append((name, tensor))
        return Checkpoint(path, manifest, joined(state), beside)

    def _read_files(self, path: Path, files: Mapping[str, str]) -> list[tuple[str, Tensor]]:
        """Read as many files as there are ranks, one on each; return what this rank needs."""
        mine: dict[str, Tensor] = {}
        error: ArtifactError | None = None
        try:
            for name in list(files)[self.ranks.rank : self.ranks.rank + 1]:
                mine = read_verified(path / name, files[name])
        except ArtifactError as caught:
            error = caught
        heads = self.ranks.gather((error, {name: (x.shape, x.dtype) for name, x in mine.items()}))
        for failed, _ in heads:
            if failed is not None:
                raise failed
        described = [(rank, each) for rank, (_, head) in enumerate(heads) for each in head.items()]
        cuts = [self._cut(name, shape.numel()) for _, (name, (shape, _)) in described]
        needs = self.ranks.gather([cut is None or len(cut) > 0 for cut in cuts])
        found = []
        for number, (owner, (name, (shape, dtype))) in enumerate(described):
            tensor = mine.pop(name) if owner == self.ranks.rank else None
            if any(need[number] for rank, need in enumerate(needs) if rank != owner):
                tensor = self._sent(tensor, owner, shape, dtype)
            if tensor is not None and needs[self.ranks.rank][number]:
                found.append(_cut(name, tensor, cuts[number]))
        return found

    def _cut(self, name: str, length: int) -> range | None:
        """Return the places of what this rank needs within a stored part; None for all of it."""
        tensor, start = place(name)
        span = self.spans.get(tensor.partition("/")[2])
        if span is None or name.startswith((RANDOM, STAGE)):
            return None
        return range(max(span.start - start, 0), min(span.stop - start, length))

    def _sent(
        self, tensor: Tensor | None, owner: int, shape: Sequence[int], dtype: torch.dtype
    ) -> Tensor:
        """Send a tensor of one rank to all."""
        if tensor is None:
            tensor = torch.empty(shape, dtype=dtype)
        on_device = tensor.to(self.device)
        dist.broadcast(on_device, src=owner)
        return on_device.to("cpu")

    def _by_main(self, work: Callable[[], T]) -> T:
        """Return what ``work`` returns on rank 0, which alone calls it, or raise its error."""
        found: T | ArtifactError | None = None
        if self.ranks.main:
            try:
                found = work()
            except ArtifactError as error:
                found = error
        found = self.ranks.broadcast(found)
        if isinstance(found, ArtifactError):
            raise found
        return found  # type: ignore[return-value]


def _cut(name: str, tensor: Tensor, cut: range | None) -> tuple[str, Tensor]:
    """Return the numbers of a part that are wanted, as a part of their own."""
    if cut is None or len(cut) == tensor.numel():
        return name, tensor
    whole, start = place(name)
    numbers = tensor.flatten()[cut.start : cut.stop].clone()
    return part_name(whole, start + cut.start), numbers
