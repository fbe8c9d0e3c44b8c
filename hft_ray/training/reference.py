"""What the base says of the data that is trained on: asked once, kept on disk.

It is the same for every run: the numbers lie under ``CACHE/reference`` and each computation of them
adds a line to ``computed.jsonl`` there. They are numbers of a model in its own precision; how they
were batched changes them by rounding alone.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from hft_ray.artifacts import new_file
from hft_ray.ranks import Ranks

CODE_VERSION = 1
"""Raise this when a change to the code changes the numbers."""

_WAIT = 5.0
"""Seconds that rank 0 waits for another process before it tells its ranks that it still does."""

Numbers = NDArray[Any]
"""A row for each pair or token."""


class ReferenceStore:
    """What the base says, by content, under ``CACHE/reference``.

    Args:
        cache: The cache folder of the storage root.
        of: What has a row each.
    """

    def __init__(self, cache: Path, of: Literal["pairs", "tokens", "units"] = "pairs") -> None:
        self._folder, self._of = cache / "reference", of

    @property
    def computed(self) -> list[dict[str, Any]]:
        """Every computation so far, oldest first: ``key``, ``pairs`` (or
        ``tokens``, ``units``), ``seconds``."""
        file = self._folder / "computed.jsonl"
        lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
        return [json.loads(line) for line in lines]

    def get(self, parts: list[str], ranks: Ranks, compute: Callable[[], Numbers]) -> Numbers:
        """Return what is kept under ``parts``, or what ``compute`` gives, and keep it.

        A collective, as is ``compute``. Runs that ask for the same at the same time wait for the
        one that computes it. What is kept is read from the disk as it is used.

        Args:
            parts: All that the numbers depend on.
            ranks: The processes of this run.
            compute: Called if there is nothing yet.
        """
        key = hashlib.sha256(json.dumps([CODE_VERSION, *parts]).encode()).hexdigest()
        path = self._folder / f"{key}.npy"
        self._folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(f"{path}.lock")
        try:
            # In turns: a collective that waits too long ends the process group.
            while not ranks.broadcast(_acquired(lock) if ranks.main else False):
                pass
            if not all(ranks.gather(path.exists())):
                started = time.monotonic()
                found = compute()
                if ranks.main:
                    self._keep(path, found, time.monotonic() - started)
                ranks.barrier()
                if not path.exists():  # the rank is on another node, with a disk of its own
                    return found
        finally:
            lock.release()
        return np.load(path, mmap_mode="r")

    def _keep(self, path: Path, values: Numbers, seconds: float) -> None:
        with new_file(path) as written, written.open("wb") as file:
            np.save(file, values)
        line = {"key": path.stem, self._of: len(values), "seconds": round(seconds, 3)}
        with (self._folder / "computed.jsonl").open("a", encoding="utf-8") as log:
            log.write(json.dumps(line) + "\n")


def _acquired(lock: FileLock) -> bool:
    try:
        lock.acquire(timeout=_WAIT)
    except Timeout:
        return False
    return True
