"""Asking a running sweep to end, through tags of its run.

The tracking address is all that is needed: whoever asks may sit at any machine. A request names the
driver that it is for, so that one left over from an earlier driver never ends a later one, whatever
the clocks of the machines say.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Literal, get_args

from hft_ray.tracking import names
from hft_ray.tracking.environment import open_client
from hft_ray.tracking.store import translated
from hft_ray.tracking.sweep_reader import answering, find_sweep

StopMode = Literal["now", "finish-running"]
ALIVE_SECONDS = 10.0
"""How often a driver says that it is there."""


class StopRequests:
    """A driver's side: says that it is there, and looks for requests.

    Args:
        uri: Tracking URI, from :func:`~hft_ray.tracking.tracking_uri`.
        run_id: Returns the sweep's run, None while it is not written yet.
        driver: Id of this driver, as in the run's tag ``hft_ray.driver``.
    """

    def __init__(self, uri: str, run_id: Callable[[], str | None], driver: str) -> None:
        self._uri, self._run_id, self._driver = uri, run_id, driver
        self._client: Any = None
        self._told = -ALIVE_SECONDS
        self._taken = ""

    def poll(self) -> StopMode | None:
        """Return what a new request asks for, and tell that it is taken.

        Raises:
            UnavailableError: The store does not answer now.
            RejectedError: The store refuses.
        """
        run_id = self._run_id()
        if run_id is None:
            return None
        with translated():
            self._client = self._client or open_client(self._uri)
            self._say_alive(run_id)
            request = self._client.get_run(run_id).data.tags.get(names.STOP, "")
            mode = _mode_for(request, self._driver)
            if mode is not None and request != self._taken:
                self._client.set_tag(run_id, names.STOP_TAKEN, request)
                self._taken = request
                return mode
        return None

    def _say_alive(self, run_id: str) -> None:
        now = time.monotonic()
        if now - self._told >= ALIVE_SECONDS:
            self._client.set_tag(run_id, names.ALIVE, f"{time.time():.0f}")
            self._told = now


def _mode_for(request: str, driver: str) -> StopMode | None:
    """Return the mode of a request for this driver, None for one to another or none at all."""
    mode, _, rest = request.partition(" ")
    found = {each: each for each in get_args(StopMode)}.get(mode)
    return found if rest.partition(" ")[0] == driver else None


def silence(tags: Mapping[str, str]) -> float | None:
    """Return the seconds since a sweep's driver last said that it is there; None if it never did.

    They are between the clocks of two machines.
    """
    told = tags.get(names.ALIVE)
    return None if told is None else max(0.0, time.time() - float(told))


class SweepRun:
    """The other side: a sweep as one who wants it to end sees it.

    Args:
        uri: Tracking URI, from :func:`~hft_ray.tracking.tracking_uri`.
        experiment: Name of the MLflow experiment.
        name: Name of the sweep.

    Raises:
        ConfigError: There is no such sweep, or the store does not answer.
    """

    def __init__(self, uri: str, experiment: str, name: str) -> None:
        self._uri = uri
        self._client, run = find_sweep(uri, experiment, name)
        self._run_id: str = run.info.run_id
        self._tags: dict[str, str] = dict(run.data.tags)
        self._request = ""

    @property
    def state(self) -> str:
        """The sweep's state when it was last looked at."""
        return self._tags.get(names.STATE, "running")

    @property
    def taken(self) -> bool:
        """Whether the sweep's driver follows the request."""
        return bool(self._request) and self._tags.get(names.STOP_TAKEN) == self._request

    @property
    def silence(self) -> float | None:
        """See :func:`silence`."""
        return silence(self._tags)

    def look(self) -> None:
        """Read the run again; raises ConfigError when the store does not answer."""
        with answering(self._uri):
            self._tags = dict(self._client.get_run(self._run_id).data.tags)

    def ask(self, mode: StopMode) -> None:
        """Ask the driver to end the sweep; raises ConfigError when the store does not answer."""
        driver = self._tags.get(names.DRIVER, "")
        self._request = f"{mode} {driver} {time.time():.3f}"
        with answering(self._uri):
            self._client.set_tag(self._run_id, names.STOP, self._request)
