"""Preference records: a prompt, the answer that was chosen, and the one that was rejected.

The ways to write one, as TRL, LLaMA-Factory and the public sets do:

    {"prompt": "...", "chosen": "...", "rejected": "..."}           strings
    {"prompt": [turns], "chosen": [turns], "rejected": [turns]}     turns {"role", "content"}
    {"chosen": [turns], "rejected": [turns]}                        whole dialogues (UltraFeedback)
    {"chosen": "...", "rejected": "..."}                            whole texts (HH-RLHF)
    {"system": "...", "question": "...", "chosen", "rejected"}      Orca DPO pairs
    {"instruction", "input", "history", "chosen", "rejected"}       LLaMA-Factory, alpaca
    {"conversations": [turns], "chosen": turn, "rejected": turn}    LLaMA-Factory, sharegpt

In the third and the fourth the prompt is what both begin with: of dialogues the turns, of texts
the letters. The last three, and all records with a system text, a history or tools, are dialogues.
"""

from __future__ import annotations

from collections.abc import Sequence

from hft_ray.config import ConfigError, Problem
from hft_ray.data.chat import common_prefix
from hft_ray.data.examples import DialoguePair, Message, Pair, TextPair
from hft_ray.data.fields import convert_each
from hft_ray.data.formats import history, instructed, repeats, system_first
from hft_ray.data.messages import read_turns
from hft_ray.data.reader import ARGUMENTS, SYSTEM, FieldReader
from hft_ray.data.records import Record, Records

FIELDS = ("chosen", "rejected")
"""What every preference record has."""

_TURNS = ("messages", "conversations")
_TEXTS = ("prompt", "question", "instruction", "input")
_IN_DIALOGUES = ("question", "instruction", "input", "history", *_TURNS, *SYSTEM, *ARGUMENTS)


def convert_pair(record: Record, where: str, *, chat: bool = False) -> Pair:
    """Turn a preference record into a pair.

    Args:
        record: The record.
        where: Where it was read, for errors.
        chat: Write records of strings as dialogues, as those with a system text are.

    Raises:
        ConfigError: It lacks an answer, or a field is not what it should be.
    """
    reader = FieldReader(record, "preference", where)
    answers = [reader.field(name) for name in FIELDS]
    if all(isinstance(answer, str) for answer in answers):
        return _dialogue_of_texts(reader) if chat or _in_dialogue(record) else _texts(reader)
    if all(isinstance(answer, list | dict) for answer in answers):
        return _dialogues(reader)
    kinds = [type(answer).__name__ for answer in answers]
    raise reader.error("chosen and rejected must both be strings, or both turns", kinds)


def convert_pairs(records: Records) -> list[Pair]:
    """Turn every record into a pair.

    Raises:
        ConfigError: Some cannot be, or have fields that are not used; the first ten problems are
            named.
    """
    # One set is written in one way.
    chat = any(map(_in_dialogue, records))
    return convert_each(
        records, "preference", lambda each, where: convert_pair(each, where, chat=chat)
    )


def _in_dialogue(record: Record) -> bool:
    """Whether a record whose answers are strings has what only a dialogue has a place for."""
    in_turns = isinstance(record.get("prompt"), list | dict)
    return in_turns or any(record.get(name) for name in _IN_DIALOGUES)


def _texts(reader: FieldReader) -> TextPair:
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


def _dialogue_of_texts(reader: FieldReader) -> DialoguePair:
    """Answers that are strings, after whatever the record has before them."""
    before = _before(reader)
    if not before:
        raise reader.error("has no prompt before the answers; it has", [*reader.record])
    chosen, rejected = (
        (Message("assistant", reader.string(name), trained=True),) for name in FIELDS
    )
    prompt = tuple(system_first(reader, before))
    return DialoguePair(prompt, chosen, rejected, reader.arguments(), reader.where)


def _before(reader: FieldReader) -> list[Message]:
    """Return the turns before the answers, without a system text that stands beside them."""
    given = [name for name in (*_TURNS, *_TEXTS) if reader.has(name)]
    if "instruction" in given and "input" in given:
        given.remove("input")
    if len(given) > 1:
        message = "has more than one prompt: keep one, and add the others to ignore_fields"
        raise reader.error(message, given)
    turns = history(reader, trained=False)
    if turns and not given:
        raise reader.error("has a history, and no prompt after it; it has", [*reader.record])
    for name in given:
        if name in _TURNS or isinstance(reader.record[name], list | dict):
            turns += read_turns(reader, name)
        else:
            text = instructed(reader) if name == "instruction" else reader.string(name)
            turns.append(Message("user", text, trained=False))
    return turns if given else []


def _dialogues(reader: FieldReader) -> DialoguePair:
    """Answers that are turns: what follows the prompt, or whole dialogues."""
    chosen, rejected = (read_turns(reader, name) for name in FIELDS)
    repeated = [name for name in _TURNS if reader.has(name)]
    # UltraFeedback has the chosen dialogue once more.
    if repeated and read_turns(reader, repeated[0]) == chosen:
        reader = FieldReader(_less(reader.record, repeated[0]), reader.form, reader.where)
    if isinstance(reader.record.get("prompt"), list) and not reader.has("prompt"):
        raise reader.error("field 'prompt' must be a list of at least one message", [])
    before = _before(reader)
    shared = chosen[: common_prefix(chosen[:-1], rejected[:-1])]
    if before and isinstance(reader.record.get("prompt"), str) and shared:
        # Beside whole dialogues a prompt of text repeats what they begin with (UltraFeedback).
        if not repeats(before[-1].content, shared):
            raise reader.error("field 'prompt' is not in the turns that both answers begin with")
        before = []
    if before:
        # Some sets repeat the prompt in the answers.
        chosen, rejected = (_without(before, answer) for answer in (chosen, rejected))
    else:
        before = shared
        chosen, rejected = chosen[len(before) :], rejected[len(before) :]
    if not before:
        raise reader.error("has no prompt, and chosen and rejected do not begin with the same turn")
    for name, answer in zip(FIELDS, (chosen, rejected), strict=True):
        if not answer or answer[-1].role != "assistant":
            raise reader.error(
                f"field {name!r} must end with an assistant's turn", [*reader.record]
            )
        if any(turn.role == "assistant" and not turn.trained for turn in answer):
            raise reader.error(f"field {name!r} has a turn that is not to be trained", [*answer])
    prompt = tuple(system_first(reader, before))
    return DialoguePair(prompt, tuple(chosen), tuple(rejected), reader.arguments(), reader.where)


def _less(record: Record, name: str) -> Record:
    return {key: value for key, value in record.items() if key != name}


def _without(prompt: Sequence[Message], answer: list[Message]) -> list[Message]:
    return answer[len(prompt) :] if answer[: len(prompt)] == [*prompt] else answer


def require_preferences(record: Record, where: str) -> None:
    """Refuse a record of another format than preference.

    Raises:
        ConfigError: It has neither of the fields.
    """
    if not any(name in record for name in FIELDS):
        message = "is not a preference record, which has the fields chosen and rejected; it has"
        raise ConfigError(Problem(where, message, list(record)))
