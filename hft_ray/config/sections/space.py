"""What a searched setting may be: the entries of ``search.space``."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator

from hft_ray.config.sections.section import Section


class Interval(Section):
    """A searched interval; whole numbers when both ends are written as whole numbers."""

    low: int | float
    """Smallest value."""
    high: int | float
    """Largest value, included."""
    log: bool = False
    """Search on a logarithmic scale."""
    when: dict[str, Any] | None = None
    """Search this only when other searched settings have these values (a value or a list)."""

    @model_validator(mode="after")
    def _ordered(self) -> Interval:
        if not self.low < self.high:
            raise ValueError(f"low {self.low} must be below high {self.high}")
        if self.log and self.low <= 0:
            raise ValueError(f"a logarithmic interval needs low above 0, not {self.low}")
        return self


class Choices(Section):
    """A searched list of values. ``key: [a, b]`` is short for ``key: {choices: [a, b]}``."""

    choices: list[Any] = Field(min_length=1)
    """The values."""
    when: dict[str, Any] | None = None
    """Search this only when other searched settings have these values (a value or a list)."""


def _entry_kind(entry: Any) -> str:
    listed = isinstance(entry, Choices) or (isinstance(entry, dict) and "choices" in entry)
    return "a list" if listed else "an interval"


SpaceEntry = Annotated[
    Annotated[Interval, Tag("an interval")] | Annotated[Choices, Tag("a list")],
    Discriminator(_entry_kind),
]


def _lists_are_choices(space: Any) -> Any:
    if not isinstance(space, dict):
        return space
    return {
        key: {"choices": value} if isinstance(value, list) else value
        for key, value in space.items()
    }


Space = Annotated[
    dict[str, SpaceEntry],
    BeforeValidator(_lists_are_choices, json_schema_input_type=dict[str, SpaceEntry | list[Any]]),
]
"""Dotted key of FILE -> what may be tried."""
