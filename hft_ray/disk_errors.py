"""Errors that a disk causes, whichever library raises them."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
FULL_TEXTS = ("No space left on device", "Disk quota exceeded", "File too large")
"""Errors of native code have no type of their own."""
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR}
_FORBIDDEN_TEXTS = ("Permission denied", "Read-only file system")
_BROKEN = {errno.EIO, errno.ESTALE, errno.ENXIO, errno.ENODEV}


def disk_problem(error: BaseException) -> str | None:
    """Return what is wrong with the disk in a sentence, None if it is not what failed.

    Args:
        error: The error; its causes are considered too.
    """
    for each in chain(error):
        text, number = str(each), each.errno if isinstance(each, OSError) else None
        place = getattr(each, "filename", None)
        at = f" at {os.fspath(place)!r}" if isinstance(place, str | os.PathLike) else ""
        if is_full(each):
            return f"the disk is full{at} ({_line(text)})"
        if number in _FORBIDDEN or any(part in text for part in _FORBIDDEN_TEXTS):
            return f"a file cannot be written or read{at} ({_line(text)})"
        if number in _BROKEN:
            return f"the disk does not answer as it should{at} ({_line(text)})"
    return None


def is_full(error: BaseException) -> bool:
    """Whether an error says that the disk, or the user's share of it, is full."""
    number = error.errno if isinstance(error, OSError) else None
    return number in FULL or any(part in str(error) for part in FULL_TEXTS)


def chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and what caused it, each once."""
    seen: set[int] = set()
    found: BaseException | None = error
    while found is not None and id(found) not in seen:
        seen.add(id(found))
        yield found
        found = found.__cause__ or (None if found.__suppress_context__ else found.__context__)


def _line(text: str) -> str:
    return " ".join(text.split())[:300]
