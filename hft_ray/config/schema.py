"""The schema of FILE: one pydantic model per section, named as the section.

Units are steps (optimizer steps), tokens, and fractions in (0, 1]. Defaults follow the HFT paper
(arXiv 2404.18466) where it states one.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from hft_ray.config.adapter import Adapter
from hft_ray.config.evaluation import EvaluationSection
from hft_ray.config.method import Method
from hft_ray.config.search import Search
from hft_ray.config.section import Name, PositiveInt, Section
from hft_ray.config.selection import Selection
from hft_ray.config.training import Training


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
    format: Literal["auto", "messages", "prompt_completion", "alpaca", "sharegpt", "text"] = "auto"
    """How a record is written; auto looks at the keys of the first record."""
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
    selection: Selection = Field(default_factory=Selection)
    adapter: Adapter = Field(default_factory=Adapter)
    training: Training = Field(default_factory=Training)
    evaluation: EvaluationSection = Field(default_factory=EvaluationSection)
    search: Search | None = None
    cluster: Cluster = Field(default_factory=Cluster)
    tracking: Tracking = Field(default_factory=Tracking)

    @field_validator("model", mode="before", json_schema_input_type=Model | str)
    @classmethod
    def _model_name(cls, model: Any) -> Any:
        return {"name": model} if isinstance(model, str) else model

    @field_validator("adapter", mode="before", json_schema_input_type=Adapter | str)
    @classmethod
    def _adapter_kind(cls, adapter: Any) -> Any:
        return {"kind": adapter} if isinstance(adapter, str) else adapter

    @field_validator("method", mode="before", json_schema_input_type=Method | str)
    @classmethod
    def _method_kind(cls, method: Any) -> Any:
        return {"kind": method} if isinstance(method, str) else method

    @model_validator(mode="after")
    def _adapters_are_not_drawn(self) -> Config:
        if self.adapter.kind == "none":
            return self
        if self.training.zero_stage == 3:
            raise ValueError("adapter needs training.zero_stage 0, 1 or 2: it is merged in place")
        if self.training.l2_to_base:
            raise ValueError("adapter: its matrices have no base for training.l2_to_base")
        if self.selection.reselect not in ("never", "task"):
            raise ValueError("adapter: nothing is drawn with one; set selection.reselect to never")
        return self
