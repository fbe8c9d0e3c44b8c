"""Preference records: a prompt, the answer that was chosen, and the one that was rejected.

The ways to write one, as TRL and the public sets do:

    {"prompt": "...", "chosen": "...", "rejected": "..."}           strings
    {"prompt": [turns], "chosen": [turns], "rejected": [turns]}     turns {"role", "content"}
    {"chosen": [turns], "rejected": [turns]}                        whole dialogues (UltraFeedback)
    {"chosen": "...", "rejected": "..."}                            whole texts (HH-RLHF)

In the last two the prompt is what both begin with: of dialogues the turns, of texts the letters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hft_ray.config import ConfigError, Problem
from hft_ray.data.chat import common_prefix
from hft_ray.data.formats import ROLES, Message, Reader
from hft_ray.data.problems import Problems
from hft_ray.data.records import Record, Records

FIELDS = ("chosen", "rejected")
"""What every preference record has."""


@dataclass(frozen=True)
class TextPair:
    """A prompt and two answers as text."""

    prompt: str
    chosen: str
    rejected: str


@dataclass(frozen=True)
class DialoguePair:
    """A prompt and two answers as turns, each at least one, that the chat template renders."""

    prompt: tuple[Message, ...]
    chosen: tuple[Message, ...]
    rejected: tuple[Message, ...]


Pair = TextPair | DialoguePair


def convert_pair(record: Record, where: str) -> Pair:
    """Turn a preference record into a pair.

    Args:
        record: The record.
        where: Where it was read, for errors.

    Raises:
        ConfigError: It lacks an answer, or a field is not what it should be.
    """
    reader = Reader(record, "preference", where)
    answers = [reader.field(name) for name in FIELDS]
    if all(isinstance(answer, str) for answer in answers):
        return _texts(reader)
    if all(isinstance(answer, list) for answer in answers):
        return _dialogues(reader)
    kinds = [type(answer).__name__ for answer in answers]
    raise reader.error("chosen and rejected must both be strings, or both lists of turns", kinds)


def convert_pairs(records: Records) -> list[Pair]:
    """Turn every record into a pair.

    Raises:
        ConfigError: Some cannot be; the first ten are named.
    """
    pairs: list[Pair] = []
    problems = Problems(records.name)
    for index, record in enumerate(records):
        try:
            pairs.append(convert_pair(record, records.where(index)))
        except ConfigError as error:
            problems.add(error.problems)
    problems.check()
    return pairs


def _texts(reader: Reader) -> TextPair:
    chosen, rejected = reader.string("chosen"), reader.string("rejected")
    if reader.record.get("prompt") is not None:
        return TextPair(reader.string("prompt"), chosen, rejected)
    shared = chosen[: common_prefix(chosen, rejected)]
    # A space belongs to the word that follows, as TRL's extract_prompt has it.
    if shared.endswith(" "):
        shared = shared[:-1]
    if not shared:
        raise reader.error("has no prompt, and chosen and rejected begin with nothing in common")
    return TextPair(shared, chosen[len(shared) :], rejected[len(shared) :])


def _dialogues(reader: Reader) -> DialoguePair:
    chosen, rejected = (_turns(reader, name) for name in FIELDS)
    given = reader.record.get("prompt")
    if isinstance(given, list):
        prompt = _turns(reader, "prompt")
        if not prompt:
            raise reader.error("field 'prompt' must be a list of at least one message", given)
        # Some sets repeat the prompt in the answers.
        chosen, rejected = (_without(prompt, answer) for answer in (chosen, rejected))
    else:
        prompt = _shared(chosen, rejected)
        chosen, rejected = chosen[len(prompt) :], rejected[len(prompt) :]
        if not prompt and given is not None:
            prompt = [Message("user", reader.string("prompt"), trained=False)]
    if not prompt:
        raise reader.error("has no prompt, and chosen and rejected do not begin with the same turn")
    for name, answer in zip(FIELDS, (chosen, rejected), strict=True):
        if not answer or answer[-1].role != "assistant":
            raise reader.error(
                f"field {name!r} must end with an assistant's turn", [*reader.record]
            )
    return DialoguePair(tuple(prompt), tuple(chosen), tuple(rejected))


def _turns(reader: Reader, name: str) -> list[Message]:
    return reader.turns(name, "role", "content", ROLES)


def _without(prompt: Sequence[Message], answer: list[Message]) -> list[Message]:
    return answer[len(prompt) :] if answer[: len(prompt)] == [*prompt] else answer


def _shared(chosen: list[Message], rejected: list[Message]) -> list[Message]:
    """Return the turns that both begin with; the last turn of each is left to the answers."""
    return chosen[: common_prefix(chosen[:-1], rejected[:-1])]


def require_preferences(record: Record, where: str) -> None:
    """Refuse a record of another format than preference.

    Raises:
        ConfigError: It has neither of the fields.
    """
    if not any(name in record for name in FIELDS):
        message = "is no preference record, which has the fields chosen and rejected; it has"
        raise ConfigError(Problem(where, message, list(record)))
