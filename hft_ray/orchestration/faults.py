"""What can go wrong with a trial, and what follows: tried again or not, and what is said.

A rule says whether another attempt can end otherwise. A loss that is not finite, a batch that does
not fit and data that cannot be read would be the same the next time; a process or a node that dies
may have had nothing to do with the trial.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
import torch.distributed as dist

from hft_ray.config import ConfigError
from hft_ray.mirror import MirrorError
from hft_ray.training import TrainingError

Fault = Literal[
    "not_finite",
    "out_of_memory",
    "data",
    "storage_full",
    "storage",
    "peer_lost",
    "worker_crash",
    "node_lost",
    "error",
]


@dataclass(frozen=True)
class Rule:
    """What follows from a fault.

    Attributes:
        retry: Whether the trial is started again, on fresh processes.
        counted: Whether an attempt that ended so counts among ``cluster.retries``.
        advice: What the user can do, put behind the error's own words.
    """

    retry: bool = False
    counted: bool = True
    advice: str = ""


RULES: dict[Fault, Rule] = {
    "not_finite": Rule(),
    "out_of_memory": Rule(
        advice="smaller training.batch_size, more cluster.workers with a higher "
        "training.zero_stage, or less memory elsewhere would make room"
    ),
    "data": Rule(),
    "storage_full": Rule(
        advice="make room under the storage root; search.disk_bytes bounds what is kept"
    ),
    "storage": Rule(retry=True, advice="the storage did not answer"),
    # The rank that is gone says why itself, or its group's next life shows that it died.
    "peer_lost": Rule(retry=True),
    "worker_crash": Rule(retry=True),
    # Taken away or broken: the trial is not to blame, however often.
    "node_lost": Rule(retry=True, counted=False),
    "error": Rule(),
}
MOST_SPARED = 100
"""Attempts of one trial that do not count, at most: something else is wrong by then."""

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_AWAY = {
    errno.EIO,
    errno.ESTALE,
    errno.ETIMEDOUT,
    errno.EHOSTUNREACH,
    errno.ENOTCONN,
    errno.EREMOTEIO,
}
# Errors of native code have no type of their own.
_FULL_TEXT = ("No space left on device", "Disk quota exceeded", "File too large")
_AWAY_TEXT = ("Stale file handle", "Input/output error", "Remote I/O error")
_MEMORY_TEXT = ("out of memory", "can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED")


def classify(error: BaseException) -> Fault:
    """Return what kind of fault an error of a worker is, its causes considered."""
    chain = list(_chain(error))
    for each in chain:
        if isinstance(each, TrainingError):
            return "not_finite"
        if isinstance(each, ConfigError):
            return "data"
    for each in chain:
        if (found := _of_one(each)) is not None:
            return found
    return "error"


def _of_one(error: BaseException) -> Fault | None:
    if isinstance(error, MirrorError):
        return "storage"
    text = str(error)
    number = error.errno if isinstance(error, OSError) else None
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)) or _has(text, _MEMORY_TEXT):
        return "out_of_memory"
    if number in _FULL or _has(text, _FULL_TEXT):
        return "storage_full"
    if number in _AWAY or _has(text, _AWAY_TEXT):
        return "storage"
    # A collective that failed; gloo's errors are plain RuntimeErrors.
    if isinstance(error, dist.DistError) or "gloo/transport" in text:
        return "peer_lost"
    return None


def _has(text: str, parts: tuple[str, ...]) -> bool:
    return any(part in text for part in parts)


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    found: BaseException | None = error
    while found is not None and id(found) not in seen:
        seen.add(id(found))
        yield found
        found = found.__cause__ or (None if found.__suppress_context__ else found.__context__)


def explained(reason: str, fault: Fault) -> str:
    """Return an error's words with what the user can do."""
    advice = RULES[fault].advice
    return f"{reason}; {advice}" if advice else reason
