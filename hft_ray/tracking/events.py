"""Events of a sweep for tracking, which can be stored on disk.

A ``trial`` of None means the sweep itself. ``time`` is in milliseconds since 1970, when the event
happened: with it, an event that is written twice is the same row of the store.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field

from hft_ray.strict_json import dumps_exact, loads_exact


def now() -> int:
    """Return the time of an event."""
    return time.time_ns() // 1_000_000


@dataclass(frozen=True)
class Event:
    """Base class of all events."""

    sweep: str
    trial: str | None = None
    time: int = field(default_factory=now)


@dataclass(frozen=True)
class Open(Event):
    """A sweep or a trial starts or continues; params are encoded."""

    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Metrics(Event):
    """Values measured at one step."""

    step: int = 0
    values: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Tags(Event):
    """Tags to set."""

    tags: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Artifact(Event):
    """A file of the sweep or trial: ``text``, or the content of the local ``file``."""

    path: str = ""
    text: str | None = None
    file: str | None = None


@dataclass(frozen=True)
class Finish(Event):
    """The sweep or trial has ended."""

    state: str = "complete"
    reason: str | None = None


@dataclass(frozen=True)
class EnsureFinished(Event):
    """A trial has ended; what of it is not in the store yet is written."""

    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    step: int = 0
    values: dict[str, float] = field(default_factory=dict)
    state: str = "complete"
    reason: str | None = None


@dataclass(frozen=True)
class Inputs(Event):
    """The data sets of a sweep; those of its trials are the same.

    ``data`` holds a mapping for each: name, digest, source_type, source and context.
    """

    data: list[dict[str, str]] = field(default_factory=list)


@dataclass(frozen=True)
class FrontModel(Event):
    """The model of a trial that is on the front; with no trial the base model.

    ``metrics`` are those of the run that belong to the model: each with the name and the digest of
    its data set, or with nothing.
    """

    name: str = ""
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    step: int = 0
    metrics: dict[str, list[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class FrontMembers(Event):
    """The members of the front, by their run keys: every other model of the sweep has left it."""

    members: list[str] = field(default_factory=list)


_KINDS: dict[str, type[Event]] = {
    kind.__name__: kind
    for kind in (
        Open,
        Metrics,
        Tags,
        Artifact,
        Finish,
        EnsureFinished,
        Inputs,
        FrontModel,
        FrontMembers,
    )
}


def to_line(event: Event) -> str:
    """Return the event as one line of JSON."""
    return dumps_exact({"kind": type(event).__name__, **asdict(event)}) + "\n"


def from_line(line: str) -> Event:
    """Return the event of a line.

    Raises:
        ValueError: The line is not an event; a process that was killed can leave half a line.
    """
    try:
        fields = loads_exact(line)
        return _KINDS[fields.pop("kind")](**fields)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not an event: {line[:80]!r}") from error
