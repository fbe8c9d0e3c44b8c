"""The schema of FILE: one pydantic model per section, named as the section.

Units are steps (optimizer steps), tokens, and fractions in (0, 1]. Defaults follow the HFT paper
(arXiv 2404.18466) where it states one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal, LiteralString

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from hft_ray.config.evaluation import EvaluationSection
from hft_ray.config.method import Method
from hft_ray.config.search import Search
from hft_ray.config.section import Name, PositiveInt, Section
from hft_ray.config.selection import Selection
from hft_ray.config.stages import StageEntry, short_stages
from hft_ray.config.training import Training

Place = tuple[str | int, ...]


class Model(Section):
    """The language model that is tuned. ``model: NAME`` is short for ``model: {name: NAME}``."""

    name: str = Field(min_length=1)
    """A Hugging Face model directory, a GGUF file, a hub name, or package:MODULE/PATH."""
    revision: str | None = None
    """Revision of a hub name."""
    attention: Literal["auto", "sdpa", "eager", "flash_attention_2"] = "auto"
    """Attention implementation of transformers; auto takes the model's own preference."""
    trust_remote_code: bool = False
    """Run Python code that a model repository ships. Only for repositories you trust."""
    shape: dict[str, Any] | None = None
    """The model's config.json as a mapping, for `hft-ray plan` when the weights are not here."""


class Data(Section):
    """What is trained on."""

    train: str = Field(min_length=1)
    """A .jsonl, .json or .parquet file, a hub data set name, or package:MODULE/PATH."""
    format: Literal[
        "auto", "messages", "prompt_completion", "alpaca", "sharegpt", "text", "preference"
    ] = "auto"
    """How a record is written; auto looks at the keys of the first record. Records for
    dpo are written as preference."""
    preferences: str | None = Field(default=None, min_length=1)
    """Preference records of the dpo stages of `stages`; written like train."""
    split: str = "train"
    """Split of a hub data set."""
    limit: PositiveInt | None = None
    """Use only the first so many records."""
    max_length: Annotated[int, Field(ge=8)] = 512
    """Longest sequence in tokens; what is longer is cut at the end."""
    packing: bool = False
    """Put several examples into one sequence; they do not attend to each other."""


class Cluster(Section):
    """How many workers train, and with what."""

    groups: PositiveInt = 1
    """Worker groups: trials that run at the same time."""
    workers: PositiveInt = 1
    """Workers (ranks) of one group."""
    gpus_per_worker: Annotated[float, Field(ge=0)] = 0
    """GPUs of one worker; below 1 several workers share one."""
    cpus_per_worker: Annotated[float, Field(gt=0)] = 1
    """CPU cores of one worker, and its number of threads."""
    retries: Annotated[int, Field(ge=0)] = 2
    """How often a trial whose worker died is started again."""


class Tracking(Section):
    """Where results are logged."""

    uri: str | None = None
    """MLflow tracking server or store; default: a local sqlite store under the storage root."""
    experiment: str = "hft-ray"
    """MLflow experiment."""


class Config(Section):
    """FILE: one fine-tuning run, or with `search` a sweep of them."""

    name: Name
    """Name of the run or sweep."""
    arm: Name | None = None
    """Method of this run, where several are compared; search.arms gives each trial its own."""
    model: Model
    data: Data
    method: Method = Field(default_factory=Method)
    stages: list[StageEntry] = Field(default_factory=list)
    """Methods that one run goes through, one after another, in the place of method."""
    selection: Selection = Field(default_factory=Selection)
    training: Training = Field(default_factory=Training)
    evaluation: EvaluationSection = Field(default_factory=EvaluationSection)
    search: Search | None = None
    cluster: Cluster = Field(default_factory=Cluster)
    tracking: Tracking = Field(default_factory=Tracking)

    @field_validator("model", mode="before", json_schema_input_type=Model | str)
    @classmethod
    def _model_name(cls, model: Any) -> Any:
        return {"name": model} if isinstance(model, str) else model

    @field_validator("method", mode="before", json_schema_input_type=Method | str)
    @classmethod
    def _method_kind(cls, method: Any) -> Any:
        return {"kind": method} if isinstance(method, str) else method

    @field_validator("stages", mode="before", json_schema_input_type=list[StageEntry | str])
    @classmethod
    def _stage_kinds(cls, stages: Any) -> Any:
        return short_stages(stages)

    @model_validator(mode="after")
    def _what_belongs_together(self) -> Config:
        found = [*self._stages_and_preferences()]
        if found:
            details = [
                InitErrorDetails(
                    type=PydanticCustomError("value_error", message), loc=place, input=given
                )
                for place, message, given in found
            ]
            raise ValidationError.from_exception_data("FILE", details)
        return self

    def _stages_and_preferences(self) -> Iterator[tuple[Place, LiteralString, Any]]:
        """Yield what stages and preferences need and have not, or have and nothing reads."""
        method, data = self.method, self.data
        kinds = [entry.kind for entry in self.stages]
        if kinds and method.model_fields_set:
            yield ("stages",), "cannot be given beside a method: they take its place", kinds
        for place, settings, kind in (
            (("method",), method, method.kind),
            *((("stages", i), entry, entry.kind) for i, entry in enumerate(self.stages)),
        ):
            for key in settings.misplaced(kind):
                yield (*place, key), "is not read by what is trained here", getattr(settings, key)
        if "dpo" in kinds and data.preferences is None:
            yield ("data", "preferences"), "is required where a stage is dpo", None
        if "dpo" not in kinds and data.preferences is not None:
            message: LiteralString = (
                "is for a dpo stage of stages; method: dpo has its records in data.train"
            )
            yield ("data", "preferences"), message, data.preferences
        if data.format != "auto" and (data.format == "preference") != (method.kind == "dpo"):
            yield ("data", "format"), "does not fit the method", data.format
