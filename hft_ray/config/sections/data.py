"""Section ``data`` of FILE."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from hft_ray.config.sections.section import FieldName, PositiveInt, Section

RecordFormat = Literal[
    "messages", "prompt_completion", "prompt_answer", "alpaca", "sharegpt", "text"
]
"""Formats of records that sft trains on, each once."""
Format = Literal["auto", RecordFormat, "preference"]


class GeneralReplay(Section):
    """General data that take the place of a share of what sft trains on; tasks have
    ``method.replay``."""

    train: str | None = Field(default=None, min_length=1)
    """Source of the general data, written like data.train; the format is detected from the keys."""
    share: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the trained sequences that are general data, in place of as many of data.train:
    steps and batch size stay the same. Exact over the run, and at any point of it to within two."""

    @model_validator(mode="after")
    def _share_of_something(self) -> GeneralReplay:
        if self.share and self.train is None:
            raise ValueError("a share needs train: what is replayed")
        return self


class Data(Section):
    """Training data; with ``tasks``, the settings that their data have in common."""

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
    """Number of records to use; default all."""
    ignore_fields: list[FieldName] = Field(default_factory=list)
    """Fields of records, or of their turns, to leave out. A field that the format does not use, and
    that is not known to be harmless, is refused unless it is named here."""
    subset_seed: Annotated[int, Field(ge=0)] | None = None
    """Seed that draws the records of `limit`; by default the first ones are used. Search over
    several seeds to repeat a few-shot run."""
    max_length: Annotated[int, Field(ge=8)] = 512
    """Longest sequence in tokens; longer ones are cut at the end."""
    packing: bool = True
    """Put the examples of a forward pass into one row without padding; they do not attend to each
    other, and what a step trains on is the same. false, and a model whose attention cannot keep
    them apart: one row each, padded to the longest."""
    replay: GeneralReplay = Field(default_factory=GeneralReplay)
    """General data in place of a share of train."""

    @property
    def general(self) -> Data | None:
        """What is replayed, as a section of its own; None without."""
        if self.replay.train is None:
            return None
        return Data(
            train=self.replay.train,
            max_length=self.max_length,
            ignore_fields=self.ignore_fields,
        )
