"""The next proposal, made before it is asked for."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import optuna

from hft_ray.background import Worker

log = logging.getLogger(__name__)
Params = dict[str, Any]
Propose = Callable[[optuna.Study, int], Params]
"""The study as it was at a request, and the number of the next trial -> its settings."""


@dataclass(frozen=True)
class _Request:
    study: optuna.Study
    number: int


class Ahead:
    """Makes proposals in the background, so that none holds up a free worker group.

    A proposal knows the trials as they were at its request. While a later request for the same
    trial is not answered, the answer to an earlier one is taken. A proposal for another number does
    not know the trials that began since, and is never taken.

    Args:
        propose: Makes a proposal.
    """

    def __init__(self, propose: Propose) -> None:
        self._propose = propose
        self._changed = threading.Condition()
        self._wanted: _Request | None = None
        self._working: _Request | None = None
        self._ready: tuple[int, Params] | None = None
        self._worker = Worker("proposal", self._step, lambda work, error: None)

    def prepare(self, study: optuna.Study, number: int) -> None:
        """Request a proposal for trial ``number``; it replaces a request not begun yet."""
        with self._changed:
            self._wanted = _Request(study, number)
        self._worker.wake()

    def take(self, number: int) -> Params | None:
        """Return the newest proposal for trial ``number``, and wait for the first one.

        None if none was requested, or none could be made.
        """
        with self._changed:
            while (ready := self._made(number)) is None and self._is_coming(number):
                self._changed.wait()
            self._ready = self._wanted = None
        return ready

    def close(self) -> None:
        """End the thread; a proposal under way is abandoned."""
        with self._changed:
            self._wanted = None
        self._worker.close(timeout=0.0, drain=False)

    def _made(self, number: int) -> Params | None:
        return self._ready[1] if self._ready is not None and self._ready[0] == number else None

    def _is_coming(self, number: int) -> bool:
        requests = (self._working, self._wanted)
        return any(each is not None and each.number == number for each in requests)

    def _step(self) -> None:
        with self._changed:
            request, self._wanted = self._wanted, None
            self._working = request
        if request is None:
            return
        made = None
        try:
            made = self._propose(request.study, request.number)
        except Exception:
            # It is made once more when it is asked for.
            log.exception("no proposal for trial %d in advance", request.number)
        with self._changed:
            self._working = None
            if made is not None:
                self._ready = (request.number, made)
            self._changed.notify_all()
