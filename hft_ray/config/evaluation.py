"""Section ``evaluation`` of FILE."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from hft_ray.config.section import Name, PositiveInt, Section


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
