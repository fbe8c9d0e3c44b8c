"""The schema of FILE: its sections, and what must hold between them.

Units are steps (optimizer steps), tokens, and fractions in (0, 1]. Defaults follow the HFT paper
(arXiv 2404.18466) where it states one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, LiteralString

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from hft_ray.config.sections.adapter import Adapter
from hft_ray.config.sections.cluster import Cluster
from hft_ray.config.sections.data import Data
from hft_ray.config.sections.evaluation import Evaluation, EvaluationSection
from hft_ray.config.sections.method import Method, Replay
from hft_ray.config.sections.model import Model
from hft_ray.config.sections.search import Search
from hft_ray.config.sections.section import Name, Section
from hft_ray.config.sections.selection import Selection
from hft_ray.config.sections.stages import StageEntry, short_stages
from hft_ray.config.sections.tasks import Task
from hft_ray.config.sections.trace import Trace
from hft_ray.config.sections.tracking import Tracking
from hft_ray.config.sections.training import Training

Place = tuple[str | int, ...]


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
        found = [
            *self._misplaced(),
            *self._names_used_twice(),
            *self._stages_and_preferences(),
            *self._tokens_of_preferences(),
        ]
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

    def _tokens_of_preferences(self) -> Iterator[tuple[Place, LiteralString, Any]]:
        """Yield settings of the loss of answers' tokens, where a loss is of pairs."""
        if "dpo" not in self.kinds:
            return
        training = self.training
        if training.token_weights != "none":
            message: LiteralString = (
                "weighs the tokens of sft; the loss of dpo is of pairs: set none"
            )
            yield ("training", "token_weights"), message, training.token_weights
        if training.kl_to_base:
            message = "is of the tokens of sft; dpo holds the model to its reference by beta: set 0"
            yield ("training", "kl_to_base"), message, training.kl_to_base

    def _misplaced(self) -> Iterator[tuple[Place, LiteralString, Any]]:
        """Yield what the method needs and has not, or has and does not read."""
        if self.method.kind != "continual" and self.method.replay != Replay():
            message: LiteralString = "is read by method continual alone; others have data.replay"
            yield ("method", "replay"), message, self.method.kind
        if self.data.subset_seed is not None and self.data.limit is None:
            yield (
                ("data", "subset_seed"),
                "needs data.limit: the size of the subset",
                self.data.subset_seed,
            )
        if not self.method.has_tasks:
            if self.evaluation.forecast and "sft" not in self.kinds:
                message = "is measured on data of supervised fine-tuning: a stage of sft needs them"
                yield ("evaluation", "forecast"), message, self.evaluation.forecast
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
            if self.method.kind == "dpo":
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
    def general_data(self) -> str | None:
        """The setting that names general data among ``training_data``; None without."""
        return next((key for key in self.training_data if "replay" in key), None)

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
