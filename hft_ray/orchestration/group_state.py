"""What a worker group does at a moment, and the tag of the sweep's run that says it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pydantic import TypeAdapter, ValidationError

from hft_ray.tracking import names


@dataclass(frozen=True)
class GroupState:
    """A worker group at one moment.

    Attributes:
        group: Its number.
        phase: What it does, in a few words; ``starting`` also while it waits for room.
        trial: The trial that it has, if any.
        since: When it was given its work, or became idle, seconds since 1970.
        nodes: Names of the nodes on which its workers run; empty before they have started.
    """

    group: int
    phase: str
    trial: str | None
    since: float
    nodes: list[str]


_TAG = TypeAdapter(GroupState)


def group_tags(groups: Iterable[GroupState]) -> dict[str, str]:
    """Return the tags of the sweep's run that say what its groups do."""
    return {f"{names.GROUP}{each.group}": _TAG.dump_json(each).decode() for each in groups}


def groups_in(tags: Mapping[str, str], count: int) -> list[GroupState]:
    """Return what the tags of a sweep's run say of its first ``count`` groups, by number."""
    found = []
    for number in range(count):
        try:
            found.append(_TAG.validate_json(tags.get(f"{names.GROUP}{number}", "")))
        except ValidationError:  # by a version that wrote none, or cut at the longest tag
            continue
    return found
