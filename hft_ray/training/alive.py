"""Counts the bytes of the tensors that are alive, on any device; also of those without memory."""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from hft_ray.compat.torch_dispatch import TorchDispatchMode, identity, tree_leaves


class AliveBytes(TorchDispatchMode):
    """While it is entered, counts the storages of all tensors that operations of this thread make.

    Each storage counts once, however many tensors view it, until the last of them is gone. What a
    kernel takes and gives back within one operation is not seen.

    Attributes:
        now: Bytes alive.
        peak: Most bytes that were alive at once.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._seen: dict[int, weakref.ref[Any]] = {}

    def count(self, tensors: Iterable[Tensor]) -> None:
        """Count tensors that were there before."""
        for tensor in tensors:
            self._count(tensor.untyped_storage())

    def reset_peak(self) -> None:
        """Forget the peak so far."""
        self.peak = self.now

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **kwargs or {})
        self.count(leaf for leaf in tree_leaves(found) if isinstance(leaf, Tensor))
        return found

    def _count(self, storage: torch.UntypedStorage) -> None:
        key = identity(storage)
        if key in self._seen:
            return
        size = storage.nbytes()

        def gone(_: object) -> None:
            del self._seen[key]
            self.now -= size

        self._seen[key] = weakref.ref(storage, gone)
        self.now += size
        self.peak = max(self.peak, self.now)
