"""Why a sweep ends before its time; each says what is saved and how to go on."""

from __future__ import annotations


class SweepError(RuntimeError):
    """The sweep cannot continue; what is finished is saved. The message says why."""


class InterruptedSweepError(RuntimeError):
    """The sweep was asked to end early; the same command, or call, continues it."""

    def __init__(self) -> None:
        super().__init__("stopped; finished trials are saved, the same command continues the sweep")


class ClusterError(RuntimeError):
    """A local Ray cluster does not start. The message says why."""
