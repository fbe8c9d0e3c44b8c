"""Requests to end a sweep that come through tracking, listened to in a thread of its own."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from hft_ray.tracking import RejectedError, StopMode, StopRequests, UnavailableError

log = logging.getLogger(__name__)
POLL_SECONDS = 2.0


class StopListener:
    """Calls back for each request; a store that is away only costs a line in the log.

    Args:
        requests: Where to look.
        follow: Called with what is asked for, in the listener's thread.
    """

    def __init__(self, requests: StopRequests, follow: Callable[[StopMode], None]) -> None:
        self._requests, self._follow = requests, follow
        self._closed = threading.Event()
        self._away = False
        self._thread = threading.Thread(target=self._run, daemon=True, name="stop-listener")

    def start(self) -> None:
        """Begin to listen."""
        self._thread.start()

    def close(self) -> None:
        """Listen no more; a call to the store that hangs is not waited for."""
        self._closed.set()

    def _run(self) -> None:
        while not self._closed.wait(POLL_SECONDS):
            try:
                mode = self._requests.poll()
            except (RejectedError, UnavailableError) as error:
                if not self._away:
                    log.warning("requests to stop are not heard for now: %s", error)
                self._away = True
                continue
            self._away = False
            if mode is not None and not self._closed.is_set():
                log.info("asked to stop: %s", mode)
                self._follow(mode)
