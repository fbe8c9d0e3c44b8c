"""The formats of training records, and their conversion to examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from hft_ray.config import ConfigError, Problem
from hft_ray.config.sections.data import RecordFormat
from hft_ray.data.examples import Dialogue, Example, Message, Text
from hft_ray.data.field_renames import renames_to_any
from hft_ray.data.fields import convert_each
from hft_ray.data.messages import read_turns
from hft_ray.data.reader import ARGUMENTS, SYSTEM, FieldReader
from hft_ray.data.records import Record, Records

# Ordered: where the keys of two formats are there (UltraChat has both a prompt and messages),
# the first wins.
FIELDS: Mapping[RecordFormat, tuple[str, ...]] = {
    "messages": ("messages",),
    "sharegpt": ("conversations",),
    "prompt_completion": ("prompt", "completion"),
    "prompt_answer": ("prompt", "answer"),
    "alpaca": ("instruction", "output"),
    "text": ("text",),
}

# Stanford Alpaca, train.py, PROMPT_DICT; the answer follows without a space or a new line.
_ALPACA = (
    "Below is an instruction that describes a task. "
    "Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Response:"
)
_ALPACA_INPUT = (
    "Below is an instruction that describes a task, paired with an input that provides further "
    "context. Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:"
)
_IN_DIALOGUES = ("history", *SYSTEM, *ARGUMENTS)


def detect(record: Record) -> RecordFormat:
    """Return the format whose fields ``record`` has, or of whose fields it has at least one.

    Raises:
        ConfigError: It has no field of any format.
    """
    # Arrow gives every record the fields of all others, as nulls.
    given = [name for name, value in record.items() if value is not None]
    for there, enough in ((given, all), (record, all), (record, any)):
        for name, fields in FIELDS.items():
            if enough(field in there for field in fields):
                return name
    known = "; ".join(f"{name}: {', '.join(fields)}" for name, fields in FIELDS.items())
    if "chosen" in record and "rejected" in record:
        known += "; preference records, chosen and rejected, are for method: dpo"
    message = f"no known format has these fields (known: {known}){renames_to_any(record)}"
    raise ConfigError(Problem("format", message, list(record)))


def convert(record: Record, form: RecordFormat, where: str, *, chat: bool = False) -> Example:
    """Turn a record of format ``form`` into an example.

    Args:
        record: The record.
        form: Its format.
        where: Where the record was read, for errors.
        chat: Write alpaca records as dialogues, as those with a system text or a history are.

    Raises:
        ConfigError: It lacks a field that the format needs, or one is not what it should be.
    """
    reader = FieldReader(record, form, where)
    match form:
        case "messages":
            return _dialogue(reader, "messages")
        case "sharegpt":
            return _dialogue(reader, "conversations")
        case "prompt_completion":
            return _prompt_completion(reader)
        case "prompt_answer":
            return Text(((reader.string("prompt"), False), (reader.string("answer"), True)))
        case "alpaca":
            return _alpaca_dialogue(reader) if chat or _in_dialogue(record) else _alpaca(reader)
        case "text":
            return Text(((reader.string("text"), True),))


def convert_all(records: Records, form: RecordFormat) -> list[Example]:
    """Turn every record into an example.

    Raises:
        ConfigError: Some cannot be, or have fields that the format does not use; the first ten
            problems are named.
    """
    # One set is written in one way.
    chat = form == "alpaca" and any(map(_in_dialogue, records))
    return convert_each(records, form, lambda each, where: convert(each, form, where, chat=chat))


def system_first(reader: FieldReader, turns: list[Message]) -> list[Message]:
    """Return the turns after the record's system text, if it has one beside them.

    Raises:
        ConfigError: The turns begin with another system text.
    """
    beside = reader.system()
    if not beside or not turns or turns[0].role not in ("system", "developer"):
        return [*beside, *turns]
    if turns[0].content != beside[0].content:
        message = "has a system text beside the turns, and another one in them: keep one"
        raise reader.error(message, beside[0].content)
    return turns


def _dialogue(reader: FieldReader, name: str) -> Dialogue:
    turns = read_turns(reader, name)
    prompt = reader.record.get("prompt")
    # UltraChat has the first user's text once more, No Robots that and the system's.
    if prompt and not repeats(prompt, turns):
        raise reader.error(f"field 'prompt' is not the text of one of the {name}", prompt)
    return _trained(reader, system_first(reader, turns))


def repeats(prompt: object, turns: Sequence[Message]) -> bool:
    """Whether a prompt is text of ``turns`` once more, but for white space."""
    text = "".join("".join(turn.content for turn in turns).split())
    return isinstance(prompt, str) and "".join(prompt.split()) in text


def _trained(reader: FieldReader, turns: list[Message]) -> Dialogue:
    if not any(turn.role == "assistant" for turn in turns):
        raise reader.error("has no assistant turn, so there is nothing to train on")
    return Dialogue(tuple(turns), reader.arguments())


def _prompt_completion(reader: FieldReader) -> Example:
    """Strings, or lists of messages as in TRL, of which the completion's are trained."""
    if not isinstance(reader.field("prompt"), list):
        for name in (*SYSTEM, *ARGUMENTS):
            if reader.has(name):
                message = f"field {name!r} is for dialogues, and prompt is a string: "
                raise reader.error(message + "write prompt and completion as lists of messages")
        return Text(((reader.string("prompt"), False), (reader.string("completion"), True)))
    completion = reader.field("completion")
    if not isinstance(completion, list | dict):
        raise reader.error("field 'completion' must be a list of messages, as prompt is")
    prompt = [replace(turn, trained=False) for turn in read_turns(reader, "prompt")]
    turns = read_turns(reader, "completion")
    if not any(turn.role == "assistant" for turn in turns):
        raise reader.error("has no assistant turn in completion, so there is nothing to train on")
    return _trained(reader, [*system_first(reader, prompt), *turns])


def _in_dialogue(record: Record) -> bool:
    """Whether an alpaca record has what only a dialogue has a place for."""
    return any(record.get(name) for name in _IN_DIALOGUES)


def _alpaca(reader: FieldReader) -> Text:
    instruction, output = reader.string("instruction"), reader.string("output")
    further = reader.optional("input")
    template = _ALPACA_INPUT if further else _ALPACA
    prompt = template.format(instruction=instruction, input=further)
    text = reader.optional("text")
    # The published set has instruction and output once more, as one text.
    if text and not (instruction.strip() in text and output.strip() in text):
        raise reader.error("field 'text' is not the record's instruction and output", text)
    return Text(((prompt, False), (output, True)))


def _alpaca_dialogue(reader: FieldReader) -> Dialogue:
    """A record with a system text or a history, as LLaMA-Factory has them: all answers learned."""
    turns = [
        *reader.system(),
        *history(reader, trained=True),
        Message("user", instructed(reader), trained=False),
        Message("assistant", reader.string("output"), trained=True),
    ]
    return _trained(reader, turns)


def instructed(reader: FieldReader) -> str:
    """Return instruction and input as one user's text, as LLaMA-Factory does."""
    parts = [reader.string("instruction"), reader.optional("input")]
    return "\n".join(part for part in parts if part)


def history(reader: FieldReader, *, trained: bool) -> list[Message]:
    """Return the earlier turns of a record: a list of pairs, a user's text and its answer."""
    turns: list[Message] = []
    pairs = reader.record.get("history") or []
    for pair in pairs if isinstance(pairs, list) else [pairs]:
        texts = pair if isinstance(pair, list) else []
        if len(texts) != 2 or not all(isinstance(text, str) for text in texts):
            message = "field 'history' must be a list of pairs: a user's text and its answer"
            raise reader.error(message, pairs)
        turns += [Message("user", texts[0], False), Message("assistant", texts[1], trained)]
    return turns
