"""Section ``evaluation`` of FILE."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, PrivateAttr, ValidationError, field_validator, model_validator
from pydantic_core import InitErrorDetails
from pydantic_core.core_schema import ValidatorFunctionWrapHandler

from hft_ray.config.sections.section import FieldName, Name, PositiveInt, Section
from hft_ray.config.sections.suites import SuiteEntry, expand

Count = Annotated[int, Field(ge=0)]


class _Evaluation(Section):
    name: Name
    """Name of the metrics: task/NAME or general/NAME."""
    suite: str | None = None
    """The named suite that this comes from; set when `suite: NAME` of FILE is read."""
    limit: PositiveInt | None = None
    """Score only the first so many records (of an lm-eval group: of each of its tasks)."""


class _OnRecords(_Evaluation):
    data: str = Field(min_length=1)
    """A .jsonl, .json or .parquet file, a hub data set name, or package:MODULE/PATH."""
    split: str = "test"
    """Split of a hub data set."""
    ignore_fields: list[FieldName] = Field(default_factory=list)
    """Fields of records, or of their turns, to leave out; written like data.ignore_fields."""


class _Prompted(_OnRecords):
    shots: Count = 0
    """Solved examples before every item: the first records of shots_data, or of the data itself,
    which are then not scored."""
    shots_data: str | None = Field(default=None, min_length=1)
    """Source of the solved examples; written like data."""
    chat: bool = False
    """Render plain-text prompts with the tokenizer's chat template; dialogues always are."""

    @model_validator(mode="after")
    def _shots_for_their_data(self) -> _Prompted:
        if self.shots_data is not None and self.shots == 0:
            raise ValueError("shots_data needs shots: how many of its records to show")
        return self


class Perplexity(_OnRecords):
    """Cross-entropy per token, in nats, of records {text}, or {prompt, answer}: of the answer's
    tokens after the prompt. Lower is better."""

    kind: Literal["perplexity"]
    max_length: Annotated[int, Field(ge=8)] = 512
    """Longest window in tokens; longer texts are cut into windows, a longer prompt and answer from
    the left."""


class MultipleChoice(_Prompted):
    """Accuracy on records {question, choices, answer} by the answers' log-likelihood."""

    kind: Literal["multiple_choice"]
    normalize: bool = False
    """Divide each choice's log-likelihood by its length in characters."""


class Generation(_Prompted):
    """Similarity of the greedy continuation and the answer, on records {prompt, answer}; answer may
    be a list."""

    kind: Literal["generation"]
    metric: Literal[
        "exact_match", "token_f1", "number_match", "rouge_l", "edit_similarity", "sari"
    ] = "exact_match"
    """How the continuation is compared with the answer; of several answers the best one counts.
    sari needs a source, the text that is simplified. rouge_l, edit_similarity and sari need
    ``pip install 'hft-ray[trace]'``."""
    extract: str | None = None
    """A regular expression that finds the answer in the continuation: the first match, or its first
    group if it has one. Without a match the answer is empty."""
    extract_answer: bool = False
    """Apply `extract` to the reference answer as well."""
    source: Literal["record", "prompt"] = "record"
    """sari: the text that is simplified, the record's source or its whole prompt."""
    max_new_tokens: PositiveInt = 32
    """Longest continuation in tokens."""
    stop: list[Annotated[str, Field(min_length=1)]] = Field(default_factory=lambda: ["\n"])
    """The continuation is cut at the first of these."""

    @field_validator("extract")
    @classmethod
    def _compiles(cls, extract: str | None) -> str | None:
        try:
            re.compile(extract or "")
        except re.error as error:
            raise ValueError(f"is not a regular expression: {error}") from error
        return extract


class Divergence(_OnRecords):
    """Forward KL(base || tuned) per token, in nats, on records {prompt, answer} or {text}; 0 for
    the base itself. Lower is better."""

    kind: Literal["kl"]
    tokens: Literal["answer", "prompt", "all"] = "answer"
    """The positions at which the two distributions are compared; for {text} always all."""
    top: PositiveInt = 256
    """Tokens of the base's distribution that are kept individually; the others are summed into one.
    Exact for a vocabulary of at most this size, otherwise a lower bound."""
    max_length: Annotated[int, Field(ge=8)] = 512
    """Longest record in tokens; longer ones are cut from the left."""
    chat: bool = False
    """Render plain-text prompts with the tokenizer's chat template; dialogues always are."""


class PairPreference(_OnRecords):
    """Share of preference pairs, records {prompt, chosen, rejected}, whose chosen answer the model
    prefers."""

    kind: Literal["preference"]
    metric: Literal["reward_accuracy", "reward_margin", "logprob_accuracy"] = "reward_accuracy"
    """reward_accuracy: the chosen answer's log-probability has risen more since the base than the
    rejected one's, which is DPO's implicit reward; the base itself has 0.5. reward_margin: by how
    much more, in nats; the base has 0. logprob_accuracy: the chosen answer is the likelier one."""
    normalize: bool = False
    """Divide each answer's log-probability by its tokens."""
    max_length: Annotated[int, Field(ge=8)] = 512
    """Longest prompt and answer in tokens; longer ones are cut at the end."""


class LmEval(_Evaluation):
    """A task or group of lm-eval (the extra `lm-eval`), run on the model in memory."""

    kind: Literal["lm_eval"]
    task: str = Field(min_length=1)
    """Name of the task or group."""
    metric: str | None = None
    """Its metric, as `acc_norm`, or with a filter as `exact_match,strict-match`; by default the
    first that it lists."""
    include_path: str | None = Field(default=None, min_length=1)
    """A folder with your own tasks; package:MODULE/PATH is allowed."""
    shots: Count | None = None
    """Solved examples before every item; by default as the task says."""
    chat: bool = False
    """Use the tokenizer's chat template."""


OnRecords = Perplexity | MultipleChoice | Generation | Divergence | PairPreference
"""Evaluations that read records of a data file."""
Evaluation = Annotated[OnRecords | LmEval, Field(discriminator="kind")]
EVALUATIONS = tuple(
    kind
    for each in (*get_args(OnRecords), LmEval)
    for kind in get_args(each.model_fields["kind"].annotation)
)
"""Every ``kind``."""


class EvaluationSection(Section):
    """What is measured: the new task, and what the model could do before."""

    task: list[Evaluation] = Field(default_factory=list)
    """Evaluations of the new task, or names of suites; their mean is task/score."""
    general: list[Evaluation] = Field(default_factory=list)
    """Evaluations of abilities that may be forgotten, or names of suites; their mean is
    general/score."""
    every: PositiveInt | None = None
    """Steps between two evaluations; by default only after the last step."""
    forecast: Count = 0
    """Examples of the training data on which every evaluation also measures the forecast of
    forgetting, forecast/kl: forward KL(base || model) of their trained tokens. 0: none."""
    batch_size: PositiveInt = 32
    """Sequences of the greatest length per forward pass of one worker; of shorter sequences more,
    up to the same number of tokens. Does not change the scores."""
    _task_places: tuple[str, ...] | None = PrivateAttr(None)

    @field_validator(
        "task",
        "general",
        mode="wrap",
        json_schema_input_type=list[Evaluation | SuiteEntry | str],
    )
    @classmethod
    def _suites_are_their_evaluations(
        cls, entries: Any, handler: ValidatorFunctionWrapHandler
    ) -> Any:
        if not isinstance(entries, list):
            return handler(entries)
        expanded, places = expand(entries)
        try:
            return handler(expanded)
        except ValidationError as error:
            raise _placed(error, places) from error

    @model_validator(mode="after")
    def _unique_names(self) -> EvaluationSection:
        names = [item.name for item in [*self.task, *self.general]]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"evaluation names must differ; used twice: {', '.join(twice)}")
        if {"score", "mean"} & set(names):
            raise ValueError("an evaluation cannot be named score or mean: these name the means")
        return self

    def with_tasks(self, task: list[Evaluation], places: list[str]) -> EvaluationSection:
        """Return the section with the tasks' evaluations, which FILE has at ``places``."""
        section = self.model_copy(update={"task": task})
        section._task_places = tuple(places)
        return section

    def places(self) -> Iterator[tuple[str, Evaluation]]:
        """Yield every evaluation with its place in FILE, for errors."""
        parts = {"task": self.task, "general": self.general}
        if self._task_places is not None:
            yield from zip(self._task_places, parts.pop("task"), strict=True)
        for part, evaluations in parts.items():
            index, last = -1, None
            for evaluation in evaluations:
                # A suite is one entry of FILE, however many evaluations it has.
                index += evaluation.suite is None or evaluation.suite != last
                last = evaluation.suite
                inner = "" if last is None else f" ({last}: {evaluation.name})"
                yield f"evaluation.{part}.{index}{inner}", evaluation


def _placed(error: ValidationError, places: list[int | str]) -> ValidationError:
    """Return ``error`` with the places that FILE has, where a suite is one entry."""
    details: list[InitErrorDetails] = []
    for each in error.errors(include_url=False):
        first, *rest = each["loc"]
        place = places[first] if isinstance(first, int) else first
        details.append(
            InitErrorDetails(
                type=each["type"],
                loc=(place, *rest),
                input=each["input"],
                ctx=each.get("ctx", {}),
            )
        )
    return ValidationError.from_exception_data(error.title, details)
