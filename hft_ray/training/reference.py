"""Log-probabilities of the reference of a preference stage: asked once, kept on disk.

The reference of a run's first stage is the base, the same for every run: its numbers lie under
``CACHE/reference`` and each computation of them adds a line to ``computed.jsonl`` there. They are
numbers of a model in its own precision; how they were batched changes them by rounding alone.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from hft_ray.artifacts import new_file
from hft_ray.ranks import Ranks

CODE_VERSION = 1
"""Raise this when a change to the code changes the numbers."""

_WAIT = 5.0
"""Seconds that rank 0 waits for another process before it tells its ranks that it still does."""

Logprobs = NDArray[np.float32]
"""log ref(y | x) of the chosen and the rejected answer of every pair, [n, 2]."""


class ReferenceStore:
    """Reference log-probabilities by content, under ``CACHE/reference``.

    Args:
        cache: The cache folder of the storage root.
    """

    def __init__(self, cache: Path) -> None:
        self._folder = cache / "reference"

    @property
    def computed(self) -> list[dict[str, Any]]:
        """Every computation so far, oldest first: ``key``, ``pairs``, ``seconds``."""
        file = self._folder / "computed.jsonl"
        lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
        return [json.loads(line) for line in lines]

    def get(self, parts: list[str], ranks: Ranks, compute: Callable[[], Logprobs]) -> Logprobs:
        """Return what is kept under ``parts``, or what ``compute`` gives, and keep it.

        A collective, as is ``compute``. Runs that ask for the same at the same time wait for the
        one that computes it.

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
            found = ranks.broadcast(_load(path) if ranks.main else None)
            if found is None:
                started = time.monotonic()
                found = compute()
                if ranks.main:
                    self._keep(path, found, time.monotonic() - started)
        finally:
            lock.release()
        return found

    def _keep(self, path: Path, values: Logprobs, seconds: float) -> None:
        with new_file(path) as written, written.open("wb") as file:
            np.save(file, values)
        line = {"key": path.stem, "pairs": len(values), "seconds": round(seconds, 3)}
        with (self._folder / "computed.jsonl").open("a", encoding="utf-8") as log:
            log.write(json.dumps(line) + "\n")


def _acquired(lock: FileLock) -> bool:
    try:
        lock.acquire(timeout=_WAIT)
    except Timeout:
        return False
    return True


def _load(path: Path) -> Logprobs | None:
    return np.load(path) if path.exists() else None
