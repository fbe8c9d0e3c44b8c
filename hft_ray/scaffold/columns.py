"""Turns records of any column names into records of FILE's formats."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from hft_ray.config import ConfigError, Problem
from hft_ray.data import Dialogue, Example, Record, Records, convert_all, detect

Kind = Literal["answers", "choices", "pairs", "texts"]

_ASKED = (
    *("prompt", "question", "query", "instruction", "input", "inputs", "problem", "request"),
    *("source", "src", "user", "human", "document", "article"),
)
_ANSWERED = (
    *("completion", "answer", "response", "output", "outputs", "target", "targets", "solution"),
    *("label", "summary", "translation", "tgt", "assistant", "reply", "highlights"),
)
_TEXT = ("text", "content", "document", "body", "sentence")
_CHOICES = ("choices", "options")


@dataclass(frozen=True)
class Item:
    """One example: what comes before the answer, as text or as turns, and the answer."""

    prompt: str | list[dict[str, Any]]
    answer: str


@dataclass(frozen=True)
class Shaped:
    """The data as FILE takes them.

    Attributes:
        kind: What a record is: a request with its answer, a question with choices, a pair of
            answers, or a text.
        records: Training records, of a format that FILE knows.
        items: Of each record that has them, prompt and answer; of choices the right one.
        scored: Records for an evaluation, one for each record of training.
        how: What was made of the columns, in words.
    """

    kind: Kind
    records: list[Record]
    items: list[Item]
    scored: list[Record]
    how: str


def shape(records: Records, *, chat: bool) -> Shaped:
    """Turn ``records`` into those of a format of FILE.

    Args:
        records: What was read.
        chat: Write what is a plain request and answer as a dialogue, for a model with a chat
            template.

    Raises:
        ConfigError: No column holds what is asked, or what is answered.
    """
    first = {
        name for record in records[:100] for name, value in record.items() if value is not None
    }
    if {"chosen", "rejected"} <= first:
        return Shaped("pairs", list(records), [], list(records), "preference pairs, as they are")
    if _named(first, _CHOICES) and _named(first, ("answer", "label", *_ANSWERED)):
        return _choices(records, first)
    if (known := _known(records)) is not None:
        return known
    asked = _named(first, _ASKED)
    answered = _named(first - {asked}, _ANSWERED)
    if asked and answered:
        return _answers(records, asked, answered, chat)
    if text := _named(first, _TEXT) or (next(iter(first)) if len(first) == 1 else None):
        texts: list[Record] = [
            {"text": _text(record, text, records.where(n))} for n, record in enumerate(records)
        ]
        return Shaped("texts", texts, [], texts, f"the column {text} as text")
    raise ConfigError(
        Problem(
            records.name,
            "no column is called as what is asked is "
            f"({', '.join(_ASKED[:6])}, ...) beside one that is called as what is answered is "
            f"({', '.join(_ANSWERED[:6])}, ...); rename them to prompt and completion",
            sorted(first),
        )
    )


def _known(records: Records) -> Shaped | None:
    """Return records whose fields are those of a format already; None if they are not."""
    try:
        form = detect(records[0])
        examples = convert_all(records, form)
    except ConfigError:
        return None
    if form == "text":
        texts = [{"text": record["text"]} for record in records]
        return Shaped("texts", texts, [], texts, "texts, as they are")
    items = [_item(example) for example in examples]
    return Shaped(
        "answers", list(records), items, list(map(_scored, items)), f"format {form}, as it is"
    )


def _item(example: Example) -> Item:
    """Return what comes before the last trained answer, and the answer."""
    if not isinstance(example, Dialogue):
        (prompt, _), *_, (answer, _) = example.segments
        return Item(prompt, answer)
    last = max(n for n, message in enumerate(example.messages) if message.trained)
    before = [message.as_turn() for message in example.messages[:last]]
    return Item(before, example.messages[last].content)


def _scored(item: Item) -> Record:
    return {"prompt": item.prompt, "answer": item.answer.strip()}


def _answers(records: Records, asked: str, answered: str, chat: bool) -> Shaped:
    written: list[Record] = []
    items: list[Item] = []
    for number, record in enumerate(records):
        where = records.where(number)
        prompt, answer = _text(record, asked, where), _text(record, answered, where)
        if chat:
            turns: list[dict[str, Any]] = [{"role": "user", "content": prompt}]
            items.append(Item(turns, answer))
            written.append({"messages": [*turns, {"role": "assistant", "content": answer}]})
        else:
            # Evaluations put a space there; training leaves records as they are.
            joint = "" if prompt[-1:].isspace() or answer[:1].isspace() else " "
            items.append(Item(prompt, answer))
            written.append({"prompt": prompt, "completion": joint + answer})
    how = f"{asked} is asked, {answered} is answered" + (" (as dialogues)" if chat else "")
    return Shaped("answers", written, items, list(map(_scored, items)), how)


def _choices(records: Records, columns: set[str]) -> Shaped:
    asked = _named(columns, ("question", *_ASKED))
    listed = _named(columns, _CHOICES)
    right = _named(columns, ("answer", "label", *_ANSWERED))
    assert listed is not None
    assert right is not None
    if asked is None:
        message = f"has {listed} but no column for the question; call it question"
        raise ConfigError(Problem(records.name, message, sorted(columns)))
    written, items, scored = [], [], []
    for number, record in enumerate(records):
        where = records.where(number)
        question, choices = _text(record, asked, where), _listed(record[listed], where)
        place = _place(record[right], choices, where)
        items.append(Item(question, choices[place]))
        written.append({"prompt": question, "completion": f" {choices[place]}"})
        scored.append({"question": question, "choices": choices, "answer": place})
    how = f"{asked} is asked, the right one of {listed} is trained"
    return Shaped("choices", written, items, scored, how)


def _listed(value: Any, where: str) -> list[str]:
    # The form of ARC and CommonsenseQA on the hub.
    value = value.get("text") if isinstance(value, Mapping) else value
    if isinstance(value, list) and len(value) > 1:
        return [str(each) for each in value]
    raise ConfigError(Problem(where, "choices must be a list of two or more texts", value))


def _place(value: Any, choices: Sequence[str], where: str) -> int:
    """Return the index of the right choice: an index from 0, a letter, or the choice itself."""
    if isinstance(value, str):
        if value in choices:
            return choices.index(value)
        letter = value.strip().upper()
        value = ord(letter) - ord("A") if len(letter) == 1 and letter.isalpha() else value
        value = int(value) if isinstance(value, str) and value.isdigit() else value
    if isinstance(value, int) and 0 <= value < len(choices):
        return value
    message = f"is not an index from 0 to {len(choices) - 1}, a letter or one of the choices"
    raise ConfigError(Problem(where, message, value))


def _named(columns: set[str], names: Sequence[str]) -> str | None:
    """Return the first column that bears one of the names, whatever its case."""
    given = {column.strip().lower(): column for column in sorted(columns, reverse=True)}
    return next((given[name] for name in names if name in given), None)


def _text(record: Record, column: str, where: str) -> str:
    value = record.get(column)
    if (
        isinstance(value, bool)
        or not isinstance(value, str | int | float)
        or not str(value).strip()
    ):
        raise ConfigError(Problem(where, f"{column} must be a text that is not empty", value))
    return str(value)
