"""Section ``tasks`` of FILE: what ``method: continual`` and ``method: multitask`` train on."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, field_validator, model_validator

from hft_ray.config.sections.data import Data, Format
from hft_ray.config.sections.evaluation import Evaluation
from hft_ray.config.sections.section import FieldName, Name, PositiveInt, Section


class TaskData(Section):
    """Training data. ``data: PATH`` is short for ``data: {train: PATH}``; other settings are
    those of the section ``data``."""

    train: str = Field(min_length=1)
    """A .jsonl, .json or .parquet file, a hub data set name, or package:MODULE/PATH."""
    format: Format | None = None
    """How a record is written."""
    split: str | None = None
    """Split of a hub data set."""
    limit: PositiveInt | None = None
    """Number of records to use."""
    ignore_fields: list[FieldName] | None = None
    """Fields of records, or of their turns, to leave out."""
    subset_seed: Annotated[int, Field(ge=0)] | None = None
    """Seed that draws the records of `limit`; by default the first ones are used."""

    def within(self, shared: Data) -> Data:
        """Return the whole section: what is not given here is as in ``shared``."""
        return shared.model_copy(update=self.model_dump(exclude_none=True))


class Task(Section):
    """One task: its data, how long it is trained, and how it is scored."""

    name: Name
    """Name of the task, and of its metric task/NAME."""
    data: TaskData
    """What it trains on."""
    steps: PositiveInt | None = None
    """Continual: optimizer steps; exclusive with epochs. By default as in the section training."""
    epochs: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """Continual: passes over its data, replayed records included; exclusive with steps."""
    weight: Annotated[float, Field(gt=0)] = 1.0
    """Multitask: share of the trained examples, relative to the weights of the other tasks."""
    evaluation: list[Evaluation] = Field(min_length=1)
    """How it is scored. A single evaluation is the metric task/NAME, whatever its own name; with
    several, task/NAME is their mean and each is task/NAME.ITS-NAME."""

    @field_validator("data", mode="before", json_schema_input_type=TaskData | str)
    @classmethod
    def _short(cls, data: Any) -> Any:
        return {"train": data} if isinstance(data, str) else data

    @model_validator(mode="after")
    def _steps_or_epochs(self) -> Task:
        if self.steps is not None and self.epochs is not None:
            raise ValueError("give steps or epochs, not both")
        return self

    @property
    def scored(self) -> list[Evaluation]:
        """Its evaluations under the names of their metrics."""
        if len(self.evaluation) == 1:
            return [self.evaluation[0].model_copy(update={"name": self.name})]
        return [
            each.model_copy(update={"name": f"{self.name}.{each.name}"}) for each in self.evaluation
        ]
