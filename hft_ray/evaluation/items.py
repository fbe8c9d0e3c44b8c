"""Reads and checks the items of an evaluation, without a model or a tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from hft_ray.config import (
    ConfigError,
    Divergence,
    Generation,
    MultipleChoice,
    OnRecords,
    PairPreference,
    Perplexity,
    Problem,
)
from hft_ray.data import Pair, convert_pairs
from hft_ray.data.field_renames import renames
from hft_ray.data.fields import convert_each
from hft_ray.data.messages import read_turns
from hft_ray.data.problems import Problems
from hft_ray.data.reader import FieldReader
from hft_ray.data.records import Record, Records, read_records
from hft_ray.evaluation.text_metrics import check_library, extracted, last_number

Turns = tuple[dict[str, Any], ...]
Text = str | Turns
"""Plain text, or the turns ``{"role", "content"}`` of a dialogue so far."""
Shot = tuple[Text, str]
"""A solved example: a prompt and its right answer."""


@dataclass(frozen=True)
class Question:
    """A multiple-choice question.

    Attributes:
        question: What is asked.
        choices: What may be answered.
        answer: The index of the right choice, from 0.
        where: Where the record was read, for errors.
    """

    question: Text
    choices: tuple[str, ...]
    answer: int
    where: str = field(default="", compare=False)


@dataclass(frozen=True)
class Prompt:
    """A prompt and its right continuations.

    Attributes:
        prompt: What the model continues.
        answers: The right answers, one or more, without surrounding white space.
        source: The text that a simplification starts from, for ``sari``.
        where: Where the record was read, for errors.
    """

    prompt: Text
    answers: tuple[str, ...]
    source: str | None = None
    where: str = field(default="", compare=False)


@dataclass(frozen=True)
class Passage:
    """A text whose tokens are compared; ``prompt`` comes before it and is "" for a plain text."""

    prompt: Text
    text: str
    where: str = field(default="", compare=False)


Items = Sequence[Question] | Sequence[Prompt] | Sequence[Passage] | Sequence[Pair]


def load_items(evaluation: OnRecords, path: str) -> Items:
    """Read and check the items of ``evaluation``, without its shots.

    Args:
        evaluation: One entry of the evaluation section.
        path: Its dotted path (``evaluation.task.0``), for errors.

    Raises:
        ConfigError: The data cannot be read, is empty, or has records that do not fit the kind of
            evaluation; each is named with its file and line.
    """
    match evaluation:
        case MultipleChoice():
            return load_questions(evaluation, path)
        case Perplexity() | Divergence():
            return load_passages(evaluation, path)
        case PairPreference():
            return load_pairs(evaluation, path)
        case Generation():
            return load_prompts(evaluation, path)


def load_passages(evaluation: Perplexity | Divergence, path: str) -> list[Passage]:
    """Read the texts of a perplexity or KL evaluation. See :func:`load_items`."""
    if isinstance(evaluation, Perplexity):
        return convert_each(_read(evaluation, path), evaluation.kind, _text_or_answer)
    return convert_each(_read(evaluation, path), evaluation.kind, _passage)


def load_pairs(evaluation: PairPreference, path: str) -> list[Pair]:
    """Read the pairs of a preference evaluation. See :func:`load_items`."""
    return convert_pairs(_read(evaluation, path))


def load_questions(evaluation: MultipleChoice, path: str) -> list[Question]:
    """Read the questions of a multiple-choice evaluation. See :func:`load_items`."""
    skipped = 0 if evaluation.shots_data is not None else evaluation.shots
    return convert_each(_read(evaluation, path, skipped), evaluation.kind, _question)[skipped:]


def load_prompts(evaluation: Generation, path: str) -> list[Prompt]:
    """Read the prompts of a generation evaluation. See :func:`load_items`."""
    check_library(evaluation.metric, f"{path}.metric")

    def convert(record: Record, where: str) -> Prompt:
        prompt = _as_scored(_prompt(record, where), evaluation, where)
        _fits(prompt, evaluation, where)
        return prompt

    skipped = 0 if evaluation.shots_data is not None else evaluation.shots
    return convert_each(_read(evaluation, path, skipped), evaluation.kind, convert)[skipped:]


def load_groups(evaluation: OnRecords, path: str) -> list[int] | None:
    """Read the groups of items that are drawn together: items with the same ``group``.

    Returns:
        The number of each item's group, from 0; a record without ``group`` is a group by itself.
        ``None`` if no record has one.

    Raises:
        ConfigError: As :func:`load_items`, or a group is something else.
    """
    skipped = 0
    if isinstance(evaluation, MultipleChoice | Generation) and evaluation.shots_data is None:
        skipped = evaluation.shots
    records = _read(evaluation, path, skipped)
    named = [_group(record, records.where(n)) for n, record in enumerate(records)][skipped:]
    if all(name is None for name in named):
        return None
    numbers: dict[object, int] = {}
    keys = [place if name is None else (name,) for place, name in enumerate(named)]
    return [numbers.setdefault(key, len(numbers)) for key in keys]


def load_shots(evaluation: MultipleChoice | Generation, path: str) -> list[Shot]:
    """Read the solved examples that stand before every item: prompt and right answer.

    Raises:
        ConfigError: As :func:`load_items`, or there are too few records.
    """
    if evaluation.shots == 0:
        return []
    key = "data" if evaluation.shots_data is None else "shots_data"
    records = read_records(
        getattr(evaluation, key),
        path=f"{path}.{key}",
        split=evaluation.split,
        limit=evaluation.shots,
    ).without(evaluation.ignore_fields)
    _enough(records, evaluation.shots, f"{path}.{key}")
    if isinstance(evaluation, MultipleChoice):
        questions = convert_each(records, evaluation.kind, _question)
        return [(each.question, each.choices[each.answer]) for each in questions]
    return [
        (each.prompt, each.answers[0]) for each in convert_each(records, evaluation.kind, _prompt)
    ]


def _enough(records: Records, wanted: int, path: str) -> None:
    if len(records) < wanted:
        message = f"has {len(records)} records, and the evaluation needs {wanted} with its shots"
        raise ConfigError(Problem(path, message, records.name))


def _read(evaluation: OnRecords, path: str, more: int = 0) -> Records:
    """Read ``limit`` records, and ``more`` before them that are not scored."""
    limit = None if evaluation.limit is None else evaluation.limit + more
    name, place = evaluation.data, f"{path}.data"
    records = read_records(name, path=place, split=evaluation.split, limit=limit)
    _enough(records, more + 1, place)
    problems = Problems(records.name)
    for index, record in enumerate(records):
        try:
            _group(record, records.where(index))
        except ConfigError as error:
            problems.add(error.problems)
    problems.check()
    return records.without(evaluation.ignore_fields)


def _group(record: Record, where: str) -> str | int | None:
    group = record.get("group")
    # A bool is an int in Python.
    if group is not None and type(group) not in (str, int):
        message = "group must be a text or an integer: items of the same one are drawn together"
        raise ConfigError(Problem(where, message, group))
    return group


def _text_or_answer(record: Record, where: str) -> Passage:
    """Return what perplexity is measured of: a plain text is the usual record."""
    if record.get("prompt") is None:
        return Passage("", _string(record, "text", where), where)
    return _passage(record, where)


def _passage(record: Record, where: str) -> Passage:
    if record.get("text") is not None:
        for name in ("prompt", "answer"):
            if record.get(name):
                message = f"has the field text, and the field {name} beside it: keep one"
                raise ConfigError(Problem(where, message, record[name]))
        return Passage("", _string(record, "text", where), where)
    prompt, answer = _prompt(record, where).prompt, record["answer"]
    # White space around it is kept, as in training.
    return Passage(prompt, answer if isinstance(answer, str) else answer[0], where)


def _question(record: Record, where: str) -> Question:
    question = _string(record, "question", where)
    choices = _field(record, "choices", where)
    if not isinstance(choices, list) or len(choices) < 2:
        raise ConfigError(Problem(where, "choices must be a list of two or more texts", choices))
    if not all(isinstance(choice, str) and choice.strip() for choice in choices):
        raise ConfigError(Problem(where, "every choice must be a text that is not empty", choices))
    answer = _field(record, "answer", where)
    # A bool is an int in Python.
    if type(answer) is not int or not 0 <= answer < len(choices):
        message = f"answer must be the index of a choice, from 0 to {len(choices) - 1}"
        raise ConfigError(Problem(where, message, answer))
    return Question(question, tuple(choices), answer, where)


def _prompt(record: Record, where: str) -> Prompt:
    prompt = _field(record, "prompt", where)
    answers = _answers(record, where)
    source = None if record.get("source") is None else _string(record, "source", where)
    if isinstance(prompt, str) and prompt.strip():
        return Prompt(prompt, answers, source, where)
    if isinstance(prompt, list) and prompt:
        turns = read_turns(FieldReader(record, "generation", where), "prompt")
        return Prompt(tuple(turn.as_turn() for turn in turns), answers, source, where)
    message = 'prompt must be a text that is not empty, or a list of {"role", "content"} texts'
    raise ConfigError(Problem(where, message, prompt))


def _answers(record: Record, where: str) -> tuple[str, ...]:
    answer = _field(record, "answer", where)
    answers = answer if isinstance(answer, list) else [answer]
    if not answers or not all(isinstance(each, str) and each.strip() for each in answers):
        message = "answer must be a text that is not empty, or a list of such texts"
        raise ConfigError(Problem(where, message, answer))
    return tuple(each.strip() for each in answers)


def _as_scored(prompt: Prompt, evaluation: Generation, where: str) -> Prompt:
    """Return the prompt with its answers and source as the evaluation takes them."""
    if evaluation.extract_answer:
        answers = tuple(extracted(evaluation.extract, each).strip() for each in prompt.answers)
        if not all(answers):
            message = f"answer holds nothing that extract finds: {evaluation.extract}"
            raise ConfigError(Problem(where, message, prompt.answers))
        prompt = replace(prompt, answers=answers)
    if evaluation.source == "prompt" and isinstance(prompt.prompt, str):
        prompt = replace(prompt, source=prompt.prompt)
    return prompt


def _fits(prompt: Prompt, evaluation: Generation, where: str) -> None:
    """Refuse a prompt that no output can match, or that its metric cannot score."""
    for answer in prompt.answers:
        for stop in evaluation.stop:
            if stop in answer:
                message = f"answer holds the stop string {stop!r}, so no output could match it"
                raise ConfigError(Problem(where, message, answer))
        if evaluation.metric == "number_match" and last_number(answer) is None:
            raise ConfigError(Problem(where, "answer must hold a number for number_match", answer))
    if evaluation.metric == "sari" and prompt.source is None:
        message = "sari needs the record's 'source': the text that is simplified"
        raise ConfigError(Problem(where, message))


def _string(record: Record, key: str, where: str) -> str:
    value = _field(record, key, where)
    if not isinstance(value, str) or not value.strip():
        raise ConfigError(Problem(where, f"{key} must be a text that is not empty", value))
    return value


def _field(record: Record, key: str, where: str) -> Any:
    if key not in record:
        keys = ", ".join(record) or "none"
        message = f"the record has no {key!r}{renames(record, '', key)}; its keys are: {keys}"
        raise ConfigError(Problem(where, message))
    if record[key] is None:
        raise ConfigError(Problem(where, f"field {key!r} is null"))
    return record[key]
