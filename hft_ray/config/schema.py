"""The schema of FILE: one pydantic model per section, named as the section.

Units are steps (optimizer steps), tokens, and fractions in (0, 1]. Defaults follow the HFT paper
(arXiv 2404.18466) where it states one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal, LiteralString

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from hft_ray.config.adapter import Adapter
from hft_ray.config.data import Data
from hft_ray.config.evaluation import Evaluation, EvaluationSection
from hft_ray.config.method import Method, Replay
from hft_ray.config.search import Search
from hft_ray.config.secrets import NOT_HERE, holds_secret
from hft_ray.config.section import Name, PositiveInt, Section
from hft_ray.config.selection import Selection
from hft_ray.config.stages import StageEntry, short_stages
from hft_ray.config.storage import checked_mirror
from hft_ray.config.tasks import Task
from hft_ray.config.trace import Trace
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
    use_liger_kernel: bool = False
    """Run norms, rotary embeddings and feed-forward layers by Liger's fused kernels: on an H100 a
    step of a 1B model takes a fifth less time. Needs a GPU and ``pip install 'hft-ray[liger]'``."""
    trust_remote_code: bool = False
    """Run Python code that a model repository ships. Only for repositories you trust."""
    shape: dict[str, Any] | None = None
    """The model's config.json as a mapping, for `hft-ray plan` when the weights are not here."""


class Cluster(Section):
    """How many workers train, and with what."""

    groups: PositiveInt = 1
    """Worker groups: trials that run at the same time."""
    min_groups: PositiveInt | None = None
    """Groups that must fit when the sweep begins; the others start whenever nodes join that have
    room for them, and trials of nodes that leave go to those that are left. Default: all."""
    workers: PositiveInt = 1
    """Workers (ranks) of one group."""
    gpus_per_worker: Annotated[float, Field(ge=0)] = 0
    """GPUs of one worker, whole or a share: with 0.5 two groups of one worker train on one GPU."""
    cpus_per_worker: Annotated[float, Field(gt=0)] = 1
    """CPU cores of one worker, and its number of threads."""
    retries: Annotated[int, Field(ge=0)] = 2
    """How often a trial whose worker died is started again."""
    placement: Literal["pack", "spread"] = "pack"
    """A group's workers: on as few nodes as can be, or on as many."""
    mirror: str | None = None
    """Where checkpoints and kept weights are copied to, and fetched from where they are missing:
    s3://BUCKET/PREFIX (endpoint and keys come from the environment), or an absolute path."""

    @model_validator(mode="after")
    def _least_and_most(self) -> Cluster:
        if self.min_groups is not None and self.min_groups > self.groups:
            raise ValueError(f"min_groups {self.min_groups} is more than groups {self.groups}")
        return self

    @model_validator(mode="after")
    def _shares_of_gpus(self) -> Cluster:
        gpus = self.gpus_per_worker
        if gpus > 1 and not gpus.is_integer():
            raise ValueError(f"gpus_per_worker {gpus:g} is neither below 1 nor whole")
        if 0 < gpus <= 0.5 and self.workers > 1:
            raise ValueError(
                f"with gpus_per_worker {gpus:g} two of a group's {self.workers} workers could come "
                "to one GPU, which NCCL refuses; give workers: 1, or more than half a GPU to each"
            )
        return self

    @property
    def needed_groups(self) -> int:
        """Groups without which a sweep does not begin."""
        return self.groups if self.min_groups is None else self.min_groups

    @field_validator("mirror")
    @classmethod
    def _some_place(cls, uri: str | None) -> str | None:
        return None if uri is None else checked_mirror(uri)


class Tracking(Section):
    """Where results are logged."""

    uri: str | None = None
    """MLflow tracking server or store; default: a local sqlite store under the storage root."""
    experiment: str = "hft-ray"
    """MLflow experiment."""

    @field_validator("uri")
    @classmethod
    def _no_secret(cls, uri: str | None) -> str | None:
        if uri is not None and holds_secret(uri):
            raise ValueError(NOT_HERE)
        return uri


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
    tasks: list[Task] = Field(default_factory=list)
    """What the methods continual and multitask train on."""
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

    @field_validator("stages", mode="before", json_schema_input_type=list[StageEntry | str])
    @classmethod
    def _stage_kinds(cls, stages: Any) -> Any:
        return short_stages(stages)

    @field_validator("tasks", mode="before", json_schema_input_type=list[Task] | Trace)
    @classmethod
    def _benchmark_is_its_tasks(cls, tasks: Any) -> Any:
        return Trace.model_validate(tasks).tasks() if isinstance(tasks, dict) else tasks

    @model_validator(mode="after")
    def _data_for_the_method(self) -> Config:
        found = [*self._misplaced(), *self._names_used_twice(), *self._stages_and_preferences()]
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
        if kinds and method != Method():
            yield ("stages",), "cannot be given beside a method: they take its place", kinds
        for place, settings, kind in (
            (("method",), method, method.kind),
            *((("stages", i), entry, entry.kind) for i, entry in enumerate(self.stages)),
        ):
            for key in settings.misplaced(kind):
                yield (*place, key), "is not read by what is trained here", getattr(settings, key)
        if kinds and "sft" not in kinds:
            yield ("stages",), "has no sft: for preferences alone take method: dpo", kinds
        if "dpo" in kinds and data.preferences is None:
            yield ("data", "preferences"), "is required where a stage is dpo", None
        if "dpo" not in kinds and data.preferences is not None:
            message = "is for a dpo stage of stages; method: dpo has its records in data.train"
            yield ("data", "preferences"), message, data.preferences
        if data.format != "auto" and (data.format == "preference") != (method.kind == "dpo"):
            yield ("data", "format"), "does not fit the method", data.format

    def _misplaced(self) -> Iterator[tuple[Place, LiteralString, Any]]:
        """Yield what the method needs and has not, or has and does not read."""
        if self.method.kind != "continual" and self.method.replay != Replay():
            message: LiteralString = "is read by method continual alone; others have data.replay"
            yield ("method", "replay"), message, self.method.kind
        if self.data.draw is not None and self.data.limit is None:
            yield ("data", "draw"), "needs a data.limit to draw", self.data.draw
        if not self.method.has_tasks:
            if not self.data.train:
                yield ("data", "train"), "is required and not given", None
            if self.data.replay.train is not None and self.kinds != ["sft"]:
                message = "is read by method: sft alone, without further stages"
                yield ("data", "replay"), message, self.data.replay.train
            if self.tasks:
                message = "are read by the methods continual and multitask alone"
                yield ("tasks",), message, self.method.kind
            return
        if not self.tasks:
            yield ("tasks",), "are what this method trains on; list at least one", []
        if self.data.train:
            message = "is not read where there are tasks: each has a data.train of its own"
            yield ("data", "train"), message, self.data.train
        if self.data.replay.train is not None:
            message = "is not read where there are tasks; continual has method.replay"
            yield ("data", "replay"), message, self.data.replay.train
        if self.evaluation.task:
            message = "is not read where there are tasks: each has an evaluation of its own"
            yield ("evaluation", "task"), message, [each.name for each in self.evaluation.task]
        for index, task in enumerate(self.tasks):
            if task.data.format == "preference":
                yield ("tasks", index, "data", "format"), "is for the method dpo", task.name
            if self.method.kind == "continual" and task.weight != 1.0:
                message = "is for the method multitask: continual trains on one task at a time"
                yield ("tasks", index, "weight"), message, task.weight
        if self.method.kind == "multitask":
            for index, task in enumerate(self.tasks):
                if task.steps is not None or task.epochs is not None:
                    message = "tasks of a mixture have weights; its length is that of training"
                    yield ("tasks", index), message, task.name

    def _names_used_twice(self) -> Iterator[tuple[Place, LiteralString, Any]]:
        taken = {each.name: "evaluation.general" for each in self.evaluation.general}
        taken |= {"score": "", "mean": ""}
        for index, task in enumerate(self.tasks):
            for name in {task.name, *(each.name for each in task.scored)}:
                if name in taken:
                    yield ("tasks", index, "name"), "is the name of another metric already", name
                taken[name] = "tasks"

    @property
    def kinds(self) -> list[str]:
        """What the stages of a run are: methods, by their kind."""
        return [entry.kind for entry in self.stages] or [self.method.kind]

    @property
    def pair_data(self) -> dict[str, Data]:
        """The preference records that are trained on, like ``training_data``; at most one."""
        if self.data.preferences is not None:
            section = self.data.model_copy(update={"train": self.data.preferences})
            return {"data.preferences": section}
        return {"data.train": self.data} if "dpo" in self.kinds else {}

    @property
    def training_data(self) -> dict[str, Data]:
        """All that is trained on: setting that names the data -> its section in full."""
        if not self.tasks:
            if "sft" not in self.kinds:
                return {}
            general = self.data.general
            return {"data.train": self.data} | ({"data.replay.train": general} if general else {})
        found = {
            f"tasks.{index}.data.train": task.data.within(self.data)
            for index, task in enumerate(self.tasks)
        }
        replayed = self.method.replay.data
        if self.method.kind == "continual" and replayed is not None:
            # Neither the tasks' format nor their number of examples is theirs.
            whole = {"train": replayed, "format": "auto", "limit": None}
            found["method.replay.data"] = self.data.model_copy(update=whole)
        return found

    @property
    def scored(self) -> EvaluationSection:
        """All that is scored: the evaluation section, with the tasks' evaluations in it."""
        if not self.tasks:
            return self.evaluation
        found: list[Evaluation] = []
        paths: list[str] = []
        for index, task in enumerate(self.tasks):
            found += task.scored
            paths += [f"tasks.{index}.evaluation.{n}" for n in range(len(task.evaluation))]
        return self.evaluation.with_tasks(found, paths)
