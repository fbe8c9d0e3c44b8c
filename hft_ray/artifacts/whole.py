"""Files and folders that appear whole or not at all.

They are written beside their place and renamed into it last. A process that is killed on the way
leaves what was there before, and its half-written work under a name that begins with ``PARTIAL``.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PARTIAL = ".partial-"
"""Beginning of the names of what is being written."""
_LONGEST = 40
"""Characters of a name that its half-written version repeats; file systems limit their length."""


@contextmanager
def new_folder(target: Path, replace: bool = False) -> Iterator[Path]:
    """Yield an empty folder that becomes ``target`` when the block ends without an error.

    Args:
        target: The folder to make; its parents are made too.
        replace: Whether a folder that is there is replaced.

    Raises:
        OSError: The folder cannot be made, or ``target`` has files and is not to be replaced.
    """
    partial = _beside(target)
    partial.mkdir()
    try:
        yield partial
        if replace:
            shutil.rmtree(target, ignore_errors=True)
        partial.replace(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def new_file(target: Path) -> Iterator[Path]:
    """Yield the path of a file that becomes ``target`` when the block ends without an error."""
    partial = _beside(target)
    try:
        yield partial
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def delete_partial(folder: Path, name: str = "") -> None:
    """Delete what killed processes left half written in ``folder``.

    Args:
        folder: The folder; no other process may write there.
        name: Only what was to become this, by default everything.
    """
    for path in folder.glob(f"{PARTIAL}*"):
        if path.name.startswith(f"{PARTIAL}{name[:_LONGEST]}"):
            shutil.rmtree(path, ignore_errors=True)


def sync(path: Path) -> None:
    """Wait until a file is on the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _beside(target: Path) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    return target.with_name(f"{PARTIAL}{target.name[:_LONGEST]}-{uuid.uuid4().hex[:12]}")
