"""``events.jsonl`` of a sweep: a line of JSON for each event, in the driver's order.

Every line has ``time`` (seconds since 1970) and ``event``; further keys by event:

- ``sweep_started``: ``driver``; ``sweep_ended``: ``state``
- ``queued``, ``started``: ``trial``, when it starts ``group`` and ``attempt``
- ``checkpoint``: ``trial``, ``step``; ``stopping``: ``trial``
- ``retried``: ``trial``, ``attempt``, ``reason``, ``fault``
- ``ended``: ``trial``, ``state``, ``step``, ``reason``, ``fault``
- ``front_changed``: ``members``, ``hypervolume``
- ``tracking_lost``, ``tracking_regained``; ``mirror_behind``: ``reason``
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hft_ray.strict_json import dumps

log = logging.getLogger(__name__)
_NAMES = {
    "submitted": "queued",
    "started": "started",
    "checkpoint": "checkpoint",
    "stopping": "stopping",
    "retried": "retried",
    "finished": "ended",
}
_WRITTEN = ("trial", "group", "attempt", "step", "state", "reason", "fault")


class Journal:
    """Appends to the file; threads may share it. A full disk does not end the sweep."""

    def __init__(self, path: Path) -> None:
        self._path, self._lock = path, threading.Lock()

    def write(self, event: str, **details: Any) -> None:
        """Append a line; details that are None are left out."""
        written = {key: value for key, value in details.items() if value is not None}
        line = dumps({"time": time.time(), "event": event, **written}) + "\n"
        try:
            with self._lock, self._path.open("a", encoding="utf-8") as file:
                file.write(line)
        except OSError as error:
            log.warning("%s cannot be written: %s", self._path, error)

    def take(self, event: Mapping[str, Any]) -> None:
        """Append an event of a trial, unless it is a report."""
        if (name := _NAMES.get(event["event"])) is not None:
            self.write(name, time=event["time"], **{key: event.get(key) for key in _WRITTEN})
