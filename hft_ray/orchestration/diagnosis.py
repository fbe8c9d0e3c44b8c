"""Which kind of fault an error of a worker is.

Knows torch, for its errors; what follows from a fault is in ``faults``, which every actor reads.
"""

from __future__ import annotations

import errno

import torch
import torch.distributed as dist

from hft_ray.artifacts import MirrorError
from hft_ray.config import ConfigError
from hft_ray.disk_errors import chain, is_full
from hft_ray.orchestration.faults import Fault
from hft_ray.selection import FrozenChangedError
from hft_ray.training import TrainingError

_AWAY = {
    errno.EIO,
    errno.ESTALE,
    errno.ETIMEDOUT,
    errno.EHOSTUNREACH,
    errno.ENOTCONN,
    errno.EREMOTEIO,
}
# Errors of native code have no type of their own.
_AWAY_TEXT = ("Stale file handle", "Input/output error", "Remote I/O error")
_MEMORY_TEXT = ("out of memory", "can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED")


def classify(error: BaseException) -> Fault:
    """Return what kind of fault an error of a worker is, its causes considered."""
    errors = list(chain(error))
    for each in errors:
        if isinstance(each, FrozenChangedError):
            return "frozen_changed"
        if isinstance(each, TrainingError):
            return "not_finite"
        if isinstance(each, ConfigError):
            return "data"
    for each in errors:
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
    if is_full(error):
        return "storage_full"
    if number in _AWAY or _has(text, _AWAY_TEXT):
        return "storage"
    # A collective that failed; gloo's errors are plain RuntimeErrors.
    if isinstance(error, dist.DistError) or "gloo/transport" in text:
        return "peer_lost"
    return None


def _has(text: str, parts: tuple[str, ...]) -> bool:
    return any(part in text for part in parts)
