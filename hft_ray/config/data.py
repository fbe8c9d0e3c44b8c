"""Section ``data`` of FILE."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from hft_ray.config.section import PositiveInt, Section

Format = Literal[
    "auto",
    "messages",
    "prompt_completion",
    "prompt_answer",
    "alpaca",
    "sharegpt",
    "text",
    "preference",
]


class Data(Section):
    """What is trained on; with ``tasks``, what their data have in common."""

    train: str = ""
    """A .jsonl, .json or .parquet file, a hub data set name, or package:MODULE/PATH. Required,
    unless there are tasks: these have their own."""
    format: Format = "auto"
    """How a record is written; auto looks at the keys of the first record. Records for dpo are
    written as preference."""
    preferences: str | None = Field(default=None, min_length=1)
    """Preference records of the dpo stages of `stages`; written like train."""
    split: str = "train"
    """Split of a hub data set."""
    limit: PositiveInt | None = None
    """Use only so many records."""
    draw: Annotated[int, Field(ge=0)] | None = None
    """Seed of which records `limit` leaves; none: the first ones. Search over several seeds to
    repeat a few-shot run."""
    max_length: Annotated[int, Field(ge=8)] = 512
    """Longest sequence in tokens; what is longer is cut at the end."""
    packing: bool = False
    """Put several examples into one sequence; they do not attend to each other."""
