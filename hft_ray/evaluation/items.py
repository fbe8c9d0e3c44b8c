"""The items of an evaluation: read and checked without a model or a tokenizer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from hft_ray.config import (
    ConfigError,
    Evaluation,
    Generation,
    MultipleChoice,
    Perplexity,
    Problem,
)
from hft_ray.data.problems import Problems
from hft_ray.data.records import read_records

T = TypeVar("T")


@dataclass(frozen=True)
class Question:
    """A multiple-choice question; ``answer`` is the index of the right choice, from 0."""

    question: str
    choices: tuple[str, ...]
    answer: int


@dataclass(frozen=True)
class Prompt:
    """A prompt and the one continuation that is right.

    Attributes:
        prompt: Plain text, or the turns ``{"role", "content"}`` of a dialogue so far.
        answer: The right answer, without surrounding white space.
    """

    prompt: str | tuple[dict[str, str], ...]
    answer: str


Items = Sequence[str] | Sequence[Question] | Sequence[Prompt]


def load_items(evaluation: Evaluation, path: str) -> Items:
    """Read and check what ``evaluation`` scores.

    Args:
        evaluation: One entry of the evaluation section.
        path: Its dotted path (``evaluation.task.0``), for errors.

    Raises:
        ConfigError: The data cannot be read, is empty, or has records that do not fit the kind of
            evaluation; each is named with its file and line.
    """
    if isinstance(evaluation, Perplexity):
        return load_texts(evaluation, path)
    if isinstance(evaluation, MultipleChoice):
        return load_questions(evaluation, path)
    return load_prompts(evaluation, path)


def load_texts(evaluation: Perplexity, path: str) -> list[str]:
    """Read the texts of a perplexity evaluation. See :func:`load_items`."""
    return _load(evaluation, path, _text)


def load_questions(evaluation: MultipleChoice, path: str) -> list[Question]:
    """Read the questions of a multiple-choice evaluation. See :func:`load_items`."""
    return _load(evaluation, path, _question)


def load_prompts(evaluation: Generation, path: str) -> list[Prompt]:
    """Read the prompts of a generation evaluation. See :func:`load_items`."""

    def convert(record: dict[str, Any], where: str) -> Prompt:
        prompt = _prompt(record, where)
        for stop in evaluation.stop:
            if stop in prompt.answer:
                message = f"answer holds the stop string {stop!r}, so no output could match it"
                raise ConfigError(Problem(where, message, prompt.answer))
        return prompt

    return _load(evaluation, path, convert)


def _load(
    evaluation: Evaluation, path: str, convert: Callable[[dict[str, Any], str], T]
) -> list[T]:
    """Read the records and ``convert(record, where)`` each; all its ConfigErrors are collected."""
    records = read_records(
        evaluation.data, path=f"{path}.data", split=evaluation.split, limit=evaluation.limit
    )
    problems = Problems(evaluation.data)
    items: list[T] = []
    for index, record in enumerate(records):
        try:
            items.append(convert(record, records.where(index)))
        except ConfigError as error:
            problems.add(error.problems)
    problems.check()
    return items


def _text(record: dict[str, Any], where: str) -> str:
    return _string(record, "text", where)


def _question(record: dict[str, Any], where: str) -> Question:
    question = _string(record, "question", where)
    choices = _field(record, "choices", where)
    if not isinstance(choices, list) or len(choices) < 2:
        raise ConfigError(Problem(where, "choices must be a list of two or more texts", choices))
    if not all(isinstance(choice, str) and choice.strip() for choice in choices):
        raise ConfigError(Problem(where, "every choice must be a text that is not empty", choices))
    answer = _field(record, "answer", where)
    # A bool is an int to Python; True is no index.
    if type(answer) is not int or not 0 <= answer < len(choices):
        message = f"answer must be the index of a choice, from 0 to {len(choices) - 1}"
        raise ConfigError(Problem(where, message, answer))
    return Question(question, tuple(choices), answer)


def _prompt(record: dict[str, Any], where: str) -> Prompt:
    prompt = _field(record, "prompt", where)
    answer = _string(record, "answer", where).strip()
    if isinstance(prompt, str) and prompt.strip():
        return Prompt(prompt, answer)
    if isinstance(prompt, list) and prompt and all(_is_turn(turn) for turn in prompt):
        turns = ({"role": turn["role"], "content": turn["content"]} for turn in prompt)
        return Prompt(tuple(turns), answer)
    message = 'prompt must be a text that is not empty, or a list of {"role", "content"} texts'
    raise ConfigError(Problem(where, message, prompt))


def _is_turn(turn: Any) -> bool:
    return isinstance(turn, dict) and all(
        isinstance(turn.get(key), str) for key in ("role", "content")
    )


def _string(record: dict[str, Any], key: str, where: str) -> str:
    value = _field(record, key, where)
    if not isinstance(value, str) or not value.strip():
        raise ConfigError(Problem(where, f"{key} must be a text that is not empty", value))
    return value


def _field(record: dict[str, Any], key: str, where: str) -> Any:
    if key not in record:
        keys = ", ".join(record) or "none"
        raise ConfigError(Problem(where, f"the record has no {key!r}; its keys are: {keys}"))
    return record[key]
