"""The disk budget of a sweep's kept weights: who may write how much, and what must stay free.

The models that trials end with have the first claim on it. So what is kept beside them leaves room
for one final model of every trial under way.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock


@dataclass(frozen=True)
class DiskBudget:
    """What the kept weights of all trials of a sweep may take on disk.

    Attributes:
        folder: Folder of all of them.
        bytes: The most that they may take.
        trials: Trials that run at the same time.
    """

    folder: Path
    bytes: int
    trials: int

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from writing weights while the block runs."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self.folder.with_suffix(".lock")):
            yield

    def room_for_final(self) -> int:
        """Return the bytes that the final model of a trial may take now."""
        return self.bytes - size_of(self.folder)

    def room_for_intermediate(self, size: int) -> int:
        """Return the bytes that an intermediate model may take now, of models of ``size`` bytes."""
        return self.room_for_final() - self.trials * size

    def room_for_ended(self, size: int, intermediate: bool) -> int:
        """Return the bytes that all weights of ended trials may take.

        Args:
            size: Bytes of a model.
            intermediate: Whether trials also keep intermediate models; then one has room left.
        """
        return self.bytes - (self.trials + intermediate) * size


def size_of(folder: Path) -> int:
    """Return the bytes of the files in ``folder``, 0 if it is not there."""
    found = 0
    # os.walk passes over what another process deletes meanwhile.
    for place, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):
                found += Path(place, name).stat().st_size
    return found
