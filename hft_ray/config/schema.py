"""The schema of FILE: one pydantic model per section, named as the section.

Units are steps (optimizer steps), tokens, and fractions in (0, 1]. Defaults follow the HFT paper
(arXiv 2404.18466) where it states one.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    field_validator,
    model_validator,
)

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
Fraction = Annotated[float, Field(gt=0, le=1)]
PositiveInt = Annotated[int, Field(ge=1)]
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Section(BaseModel):
    """Base of all sections: unknown keys are refused, values are not coerced from other types."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


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


class Weights(Section):
    """How much more often a category is drawn than another, for the strategy ``weighted``."""

    attention: Weight = 1.0
    """Attention matrices."""
    feed_forward: Weight = 1.0
    """Feed-forward matrices."""
    norm: Weight = 1.0
    """Norms inside the layers."""
    expert: Weight = 1.0
    """Matrices of experts."""
    router: Weight = 1.0
    """Routers."""

    @model_validator(mode="after")
    def _some_weight(self) -> Weights:
        if not any(self.model_dump().values()):
            raise ValueError("all weights are 0; at least one must be above 0")
        return self


class Selection(Section):
    """Which parameters are trained, and when the choice is drawn again."""

    ratio: Fraction = 0.5
    """Share of the block parameters (or matrices) that is trained."""
    granularity: Literal["model", "layer", "category"] = "category"
    """model: any matrices; layer: whole layers; category: the paper's rule within each layer."""
    budget: Literal["matrices", "parameters"] = "matrices"
    """Whether the ratio counts matrices (the paper) or parameters."""
    strategy: Literal["random", "cyclic", "gradient", "drift", "weighted"] = "random"
    """What is drawn first: random: anything (the paper); cyclic: what was drawn least often;
    gradient: what has the largest gradient per parameter; drift: what has moved least from the base
    (see drift); weighted: random, categories by their weights, not at layer granularity."""
    drift: Literal["away", "toward"] = "away"
    """Strategy drift: keep away from what has moved most from the base, or go toward it."""
    weights: Weights = Field(default_factory=Weights)
    """Strategy weighted: the ratios of categories are as these numbers, at most 1, and together
    make the ratio; at model granularity a unit is drawn with a chance by its weight."""
    reselect: Literal["never", "task", "epoch"] | PositiveInt = "never"
    """When the choice is drawn again: never, at each task, at each epoch, or every N steps."""
    embeddings: Literal["trained", "frozen", "selected"] = "trained"
    """Embeddings, head and whatever else lies outside the layers; the paper trains them."""
    seed: int = 0
    """Seed of the draws."""

    @model_validator(mode="after")
    def _layers_have_no_category(self) -> Selection:
        if self.strategy == "weighted" and self.granularity == "layer":
            raise ValueError(
                "strategy weighted weighs categories, and a layer has all of them; "
                "take granularity category or model, or another strategy"
            )
        return self


class Training(Section):
    """How the selected parameters are trained."""

    steps: PositiveInt | None = None
    """Optimizer steps; exclusive with epochs."""
    epochs: Annotated[float, Field(gt=0)] | None = None
    """Passes over the data; exclusive with steps. 1 when neither is given."""
    learning_rate: Annotated[float, Field(gt=0)] = 2e-5
    """Peak learning rate of AdamW."""
    batch_size: PositiveInt = 8
    """Sequences per optimizer step, over all workers."""
    micro_batch_size: PositiveInt | None = None
    """Sequences per forward pass of one worker; the rest is accumulated. Default: all."""
    zero_stage: Literal[0, 1, 2, 3] = 2
    """DeepSpeed ZeRO stage."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """auto: bf16 on a GPU, fp32 on a CPU."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """Decoupled weight decay of matrices; norms and biases have none."""
    adam_betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (
        0.9,
        0.999,
    )
    """Decay rates of Adam's moments."""
    moments: Literal["reset", "carry", "store"] = "reset"
    """Adam's moments at a re-selection: all empty (the paper), kept where a matrix stays selected,
    or also stored for matrices that leave and given back when they return."""
    max_grad_norm: Annotated[float, Field(ge=0)] = 1.0
    """Clip the gradient's norm to this; 0 does not clip."""
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    """Learning rate after the warm-up."""
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.03
    """Share of the steps with a linearly rising learning rate."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass to save memory."""
    seed: int = 0
    """Seed of the data order."""
    log_every: PositiveInt = 10
    """Steps between two logged training losses."""
    checkpoint_every: PositiveInt | None = None
    """Steps between two checkpoints of a run, from which it goes on after a crash; none: no."""
    checkpoints_kept: PositiveInt = 2
    """Checkpoints of a run to keep; older ones are deleted."""

    @model_validator(mode="after")
    def _steps_or_epochs(self) -> Training:
        if self.steps is not None and self.epochs is not None:
            raise ValueError("give steps or epochs, not both")
        micro = self.micro_batch_size
        if micro is not None and self.batch_size % micro:
            raise ValueError(
                f"batch_size {self.batch_size} is not a multiple of micro_batch_size {micro}"
            )
        return self


class _Evaluation(Section):
    name: Name
    """Name of the metrics: task/NAME or general/NAME."""
    data: str = Field(min_length=1)
    """A .jsonl, .json or .parquet file, a hub data set name, or package:MODULE/PATH."""
    split: str = "test"
    """Split of a hub data set."""
    limit: PositiveInt | None = None
    """Score only the first so many records."""


class Perplexity(_Evaluation):
    """Cross-entropy per token, in nats, of records {text}. Lower is better."""

    kind: Literal["perplexity"]
    max_length: Annotated[int, Field(ge=8)] = 512
    """Longest window in tokens; longer texts are cut into windows."""


class MultipleChoice(_Evaluation):
    """Accuracy on records {question, choices, answer} by the answers' log-likelihood."""

    kind: Literal["multiple_choice"]
    normalize: bool = False
    """Divide each choice's log-likelihood by its length in characters."""


class Generation(_Evaluation):
    """Exact match of the greedy continuation on records {prompt, answer}."""

    kind: Literal["generation"]
    max_new_tokens: PositiveInt = 32
    """Longest continuation in tokens."""
    stop: list[str] = Field(default_factory=lambda: ["\n"])
    """The continuation is cut at the first of these."""


Evaluation = Annotated[Perplexity | MultipleChoice | Generation, Field(discriminator="kind")]


class EvaluationSection(Section):
    """What is measured: the new task, and what the model knew before."""

    task: list[Evaluation] = Field(default_factory=list)
    """Evaluations of the new task; their mean is task/score."""
    general: list[Evaluation] = Field(default_factory=list)
    """Evaluations of what may be forgotten; their mean is general/score."""
    every: PositiveInt | None = None
    """Steps between two evaluations; by default only after the last step."""
    batch_size: PositiveInt = 32
    """Sequences per forward pass of one worker. Does not change the scores."""

    @model_validator(mode="after")
    def _unique_names(self) -> EvaluationSection:
        names = [item.name for item in [*self.task, *self.general]]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"evaluation names must differ; used twice: {', '.join(twice)}")
        if {"score", "mean"} & set(names):
            raise ValueError("an evaluation cannot be named score or mean: these name the means")
        return self


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
    if isinstance(entry, Choices):
        return "choices"
    return "choices" if isinstance(entry, dict) and "choices" in entry else "interval"


SpaceEntry = Annotated[
    Annotated[Interval, Tag("interval")] | Annotated[Choices, Tag("choices")],
    Discriminator(_entry_kind),
]


class Search(Section):
    """What is searched, for which objectives, with how many trials."""

    space: dict[str, SpaceEntry] = Field(min_length=1)
    """Dotted key of FILE -> {low, high, log} or a list of values."""
    objectives: dict[str, Literal["max", "min"]] = Field(
        default={"task/score": "max", "forgetting/mean": "min"}, min_length=1
    )
    """Metric -> direction."""
    reference_point: dict[str, float] | None = None
    """Objective -> worst value for the hypervolume; known by itself for scores and forgetting."""
    trials: PositiveInt = 20
    """Trials of the sweep, baselines and `first` included."""
    first: list[dict[str, Any]] = Field(default_factory=list)
    """Trials to run first: dotted key -> value each. Full fine-tuning is always among them."""
    sampler: Literal["tpe", "nsga2", "gp", "random", "sobol"] = "tpe"
    """Optuna's sampler."""
    seed: int = 0
    """Seed of the sampler."""

    @field_validator(
        "space", mode="before", json_schema_input_type=dict[str, SpaceEntry | list[Any]]
    )
    @classmethod
    def _lists_are_choices(cls, space: Any) -> Any:
        if not isinstance(space, dict):
            return space
        return {
            key: {"choices": value} if isinstance(value, list) else value
            for key, value in space.items()
        }

    @field_validator("objectives")
    @classmethod
    def _metric_names(cls, objectives: dict[str, str]) -> dict[str, str]:
        for name in objectives:
            if not re.fullmatch(r"[a-z]+/[A-Za-z0-9._-]+", name):
                raise ValueError(f"{name!r} is no metric name; metrics look like task/score")
        return objectives


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
    model: Model
    data: Data
    method: Literal["sft"] = "sft"
    """sft: supervised fine-tuning, loss on the answers only."""
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
