"""Requests to end a running sweep, through tags of its run, and its driver's signs of life.

A request needs only the tracking address, so it can come from any machine. It names its driver: a
request to an earlier driver does not end a later one, whatever the clocks of the machines are.
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
"""Seconds between two signs of life of a driver."""


class StopRequests:
    """The driver's side: signals that it is alive, and polls for requests.

    Args:
        uri: Tracking URI, from :func:`~hft_ray.tracking.tracking_uri`.
        run_id: Returns the sweep's run, None while it is not written yet.
        driver: Id of this driver, as in the run's tag ``hft_ray.driver``.
        state: Returns further tags of the run, which say what the sweep does now.
    """

    def __init__(
        self,
        uri: str,
        run_id: Callable[[], str | None],
        driver: str,
        state: Callable[[], Mapping[str, str]] = dict,
    ) -> None:
        self._uri, self._run_id, self._driver = uri, run_id, driver
        self._state, self._known = state, dict[str, str]()
        self._client: Any = None
        self._last_sign = -ALIVE_SECONDS
        self._taken = ""

    def poll(self) -> StopMode | None:
        """Return the mode of a new request and tag it as taken, None if there is no new one.

        Raises:
            UnavailableError: The store does not answer now.
            RejectedError: The store refuses.
        """
        run_id = self._run_id()
        if run_id is None:
            return None
        state = self._state()
        with translated():
            self._client = self._client or open_client(self._uri)
            self._sign_alive(run_id, state)
            request = self._client.get_run(run_id).data.tags.get(names.STOP, "")
            mode = _mode_for(request, self._driver)
            if mode is not None and request != self._taken:
                self._client.set_tag(run_id, names.STOP_TAKEN, request)
                self._taken = request
                return mode
        return None

    def _sign_alive(self, run_id: str, state: Mapping[str, str]) -> None:
        from mlflow.entities import RunTag

        now = time.monotonic()
        changed = {key: text for key, text in state.items() if self._known.get(key) != text}
        if not changed and now - self._last_sign < ALIVE_SECONDS:
            return
        tags = {names.ALIVE: f"{time.time():.0f}", **changed}
        self._client.log_batch(run_id, tags=[RunTag(*each) for each in tags.items()])
        self._known |= changed
        self._last_sign = now


def _mode_for(request: str, driver: str) -> StopMode | None:
    """Return the mode of a request for this driver, None for one to another or none at all."""
    mode, _, rest = request.partition(" ")
    found = {each: each for each in get_args(StopMode)}.get(mode)
    return found if rest.partition(" ")[0] == driver else None


def silence(tags: Mapping[str, str]) -> float | None:
    """Return the seconds since the last sign of life of a sweep's driver, None if there is none.

    They compare the clocks of two machines.
    """
    alive = tags.get(names.ALIVE)
    return None if alive is None else max(0.0, time.time() - float(alive))


class SweepRun:
    """The requesting side: a sweep that is to end.

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
        """The sweep's state when it was last read."""
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
