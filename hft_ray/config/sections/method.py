"""Section ``method`` of FILE."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from hft_ray.config.sections.section import Section
from hft_ray.config.sections.stages import Preferences

Share = Annotated[float, Field(ge=0, le=1)]


class Replay(Section):
    """Records that a task of ``continual`` trains on in addition to its own; training.seed decides
    which."""

    old: Share = 0.0
    """Share of each earlier task's examples that every later task trains on again."""
    general: Share = 0.0
    """Share of the examples of `data` that every task trains on as well."""
    data: str | None = Field(default=None, min_length=1)
    """Source of the general examples, for `general`; written like data.train, the format is
    detected from the keys."""

    @model_validator(mode="after")
    def _data_for_general(self) -> Replay:
        if self.general and self.data is None:
            raise ValueError("general replay needs data: what is replayed")
        return self


class Method(Preferences):
    """What training minimises, and in which stages. ``method: KIND`` is short for
    ``method: {kind: KIND}``."""

    kind: Literal["sft", "dpo", "continual", "multitask"] = "sft"
    """sft: supervised fine-tuning, loss on the answers only; dpo: direct preference optimisation on
    pairs, which are in data.train; continual: the tasks one after another, each a stage; multitask:
    all tasks mixed by their weights."""
    replay: Replay = Field(default_factory=Replay)
    """Continual: what each task trains on in addition to its own data."""

    @property
    def has_tasks(self) -> bool:
        """Whether it trains on the section ``tasks``."""
        return self.kind in ("continual", "multitask")
