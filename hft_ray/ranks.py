"""The processes of one training run, as the lower layers see them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch.distributed as dist

T = TypeVar("T")


@dataclass(frozen=True)
class Ranks:
    """This process among the processes that train one model together.

    Attributes:
        rank: Number of this process, from 0.
        size: Number of processes (the world size).
        lockstep: Every rank has to run every forward pass, as under ZeRO-3, where a forward pass
            gathers parameters from all ranks.
        group: The process group of torch that they talk in; None for the default one.
    """

    rank: int = 0
    size: int = 1
    lockstep: bool = False
    group: Any = None

    @property
    def main(self) -> bool:
        """Whether this is rank 0, which reports and writes."""
        return self.rank == 0

    def gather(self, item: T) -> list[T]:
        """Return the ``item`` of every rank, in rank order, on every rank (a collective)."""
        if self.size == 1:
            return [item]
        items: list[T | None] = [None] * self.size
        dist.all_gather_object(items, item, group=self.group)
        return [each for each in items if each is not None]

    def broadcast(self, item: T) -> T:
        """Return rank 0's ``item`` on every rank (a collective)."""
        if self.size == 1:
            return item
        box = [item]
        dist.broadcast_object_list(box, src=0, group=self.group)
        return box[0]

    def barrier(self) -> None:
        """Wait for every rank (a collective)."""
        if self.size > 1:
            dist.barrier(group=self.group)

    @contextmanager
    def apart(self) -> Iterator[Ranks]:
        """Yield the same processes with a group of their own, for another thread (a collective)."""
        if self.size == 1:
            yield self
            return
        group = dist.new_group(backend="gloo")
        try:
            yield replace(self, group=group)
        finally:
            dist.destroy_process_group(group)
