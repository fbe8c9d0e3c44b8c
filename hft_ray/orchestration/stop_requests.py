"""Listens in the background for requests to end a sweep, which come through tracking."""

from __future__ import annotations

import logging
from collections.abc import Callable

from hft_ray.background import BackgroundErrors, Worker
from hft_ray.tracking import RejectedError, StopMode, StopRequests, UnavailableError

log = logging.getLogger(__name__)
POLL_SECONDS = 2.0


class StopListener:
    """Calls back for each request; a store that is away only leaves a line in the log.

    Args:
        requests: The requests, which are polled.
        follow: Called with the mode of a request, in the listener's thread.
        errors: Takes the errors.
        retry: First and longest pause after an error, in seconds.
    """

    def __init__(
        self,
        requests: StopRequests,
        follow: Callable[[StopMode], None],
        errors: BackgroundErrors,
        retry: tuple[float, float] = (POLL_SECONDS, 30.0),
    ) -> None:
        self._requests, self._follow = requests, follow
        self._asked: StopMode | None = None
        self._away = False
        self._worker = Worker("listening for hft-ray stop", self._look, errors.caught, retry)

    def start(self) -> None:
        """Start listening."""
        self._worker.wake()

    def close(self) -> None:
        """Stop listening, without waiting for a call to the store that hangs."""
        self._worker.close(timeout=0.0, drain=False)

    def _look(self) -> float:
        try:
            # A request is returned once: it is kept until it has been followed.
            self._asked = self._asked or self._requests.poll()
            self._away = False
        except (RejectedError, UnavailableError) as error:
            if not self._away:
                log.warning("requests to stop are not heard for now: %s", error)
            self._away = True
        if self._asked is not None:
            log.info("asked to stop: %s", self._asked)
            self._follow(self._asked)
            self._asked = None
        return POLL_SECONDS
