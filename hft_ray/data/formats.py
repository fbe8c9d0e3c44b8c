"""The formats of training records, and the one form that all of them are turned into."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from hft_ray.config import ConfigError, Problem
from hft_ray.data.problems import Problems
from hft_ray.data.records import Record, Records

Format = Literal["messages", "prompt_completion", "prompt_answer", "alpaca", "sharegpt", "text"]

# Ordered: where the keys of two formats are there (UltraChat has both a prompt and messages),
# the first wins.
FIELDS: Mapping[Format, tuple[str, ...]] = {
    "messages": ("messages",),
    "sharegpt": ("conversations",),
    "prompt_completion": ("prompt", "completion"),
    "prompt_answer": ("prompt", "answer"),
    "alpaca": ("instruction", "output"),
    "text": ("text",),
}

ROLES = {role: role for role in ("system", "user", "assistant", "tool")}
_SHAREGPT_ROLES = {
    "system": "system",
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "tool": "tool",
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


@dataclass(frozen=True)
class Message:
    """One turn of a dialogue; ``trained`` is whether the loss covers it."""

    role: str
    content: str
    trained: bool


@dataclass(frozen=True)
class Dialogue:
    """Turns that the tokenizer's chat template renders."""

    messages: tuple[Message, ...]


@dataclass(frozen=True)
class Text:
    """Segments of one text, each with whether the loss covers it."""

    segments: tuple[tuple[str, bool], ...]


Example = Dialogue | Text


def detect(record: Record) -> Format:
    """Return the format whose fields ``record`` has, or of whose fields it has at least one.

    Raises:
        ConfigError: It has no field of any format.
    """
    for enough in (all, any):
        for name, fields in FIELDS.items():
            if enough(field in record for field in fields):
                return name
    known = "; ".join(f"{name}: {', '.join(fields)}" for name, fields in FIELDS.items())
    if "chosen" in record and "rejected" in record:
        known += "; preference records, chosen and rejected, are for method: dpo"
    raise ConfigError(
        Problem("format", f"no known format has these fields (known: {known})", list(record))
    )


def convert(record: Record, form: Format, where: str) -> Example:
    """Turn a record of format ``form`` into an example.

    Args:
        record: The record.
        form: Its format.
        where: Where the record was read, for errors.

    Raises:
        ConfigError: It lacks a field that the format needs, or one is not what it should be.
    """
    reader = Reader(record, form, where)
    if form == "messages":
        return reader.dialogue(reader.turns("messages", "role", "content", ROLES))
    if form == "sharegpt":
        return reader.dialogue(reader.turns("conversations", "from", "value", _SHAREGPT_ROLES))
    if form == "prompt_completion":
        return reader.prompt_completion()
    if form == "prompt_answer":
        return Text(((reader.string("prompt"), False), (reader.string("answer"), True)))
    if form == "alpaca":
        return reader.alpaca()
    return Text(((reader.string("text"), True),))


def convert_all(records: Records, form: Format) -> list[Example]:
    """Turn every record into an example.

    Raises:
        ConfigError: Some cannot be; the first ten are named.
    """
    examples: list[Example] = []
    problems = Problems(records.name)
    for index, record in enumerate(records):
        try:
            examples.append(convert(record, form, records.where(index)))
        except ConfigError as error:
            problems.add(error.problems)
    problems.check()
    return examples


@dataclass(frozen=True)
class Reader:
    """Takes the fields of one record, and says what is wrong with them."""

    record: Record
    form: str
    where: str

    def error(self, message: str, *given: Any) -> ConfigError:
        return ConfigError(Problem(self.where, message, *given))

    def field(self, name: str) -> Any:
        # Parquet and Arrow write None where a field is absent.
        value = self.record.get(name)
        if value is None:
            message = f"lacks the field {name!r} that format {self.form} needs; it has"
            raise self.error(message, list(self.record))
        return value

    def string(self, name: str) -> str:
        value = self.field(name)
        if not isinstance(value, str):
            raise self.error(f"field {name!r} must be a string", value)
        return value

    def turns(
        self, name: str, role_key: str, content_key: str, roles: Mapping[str, str]
    ) -> list[Message]:
        """Read a list of turns; ``roles`` maps the allowed roles to chat-template roles."""
        turns = self.field(name)
        if not isinstance(turns, list) or not turns:
            raise self.error(f"field {name!r} must be a list of at least one message", turns)
        return [
            self._turn(turn, f"{name}[{number}]", role_key, content_key, roles)
            for number, turn in enumerate(turns)
        ]

    def _turn(
        self, turn: Any, name: str, role_key: str, content_key: str, roles: Mapping[str, str]
    ) -> Message:
        if not isinstance(turn, dict):
            message = f"{name} must be an object with the fields {role_key!r} and {content_key!r}"
            raise self.error(message, turn)
        role, content = turn.get(role_key), turn.get(content_key)
        if not isinstance(role, str) or role not in roles:
            allowed = ", ".join(roles)
            raise self.error(f"{name} needs a field {role_key!r} that is one of {allowed}", turn)
        if not isinstance(content, str):
            raise self.error(f"{name} needs a field {content_key!r} that is a string", turn)
        return Message(roles[role], content, trained=roles[role] == "assistant")

    def dialogue(self, turns: list[Message]) -> Dialogue:
        if not any(turn.trained for turn in turns):
            raise self.error("has no assistant turn, so there is nothing to train on")
        return Dialogue(tuple(turns))

    def prompt_completion(self) -> Example:
        """Strings, or lists of messages as in TRL, of which the completion's are trained."""
        if not isinstance(self.field("prompt"), list):
            return Text(((self.string("prompt"), False), (self.string("completion"), True)))
        prompt = self.turns("prompt", "role", "content", ROLES)
        completion = self.turns("completion", "role", "content", ROLES)
        untrained = [Message(turn.role, turn.content, trained=False) for turn in prompt]
        return self.dialogue([*untrained, *completion])

    def alpaca(self) -> Text:
        instruction, output = self.string("instruction"), self.string("output")
        if not self.record.get("input"):
            return Text(((_ALPACA.format(instruction=instruction), False), (output, True)))
        prompt = _ALPACA_INPUT.format(instruction=instruction, input=self.string("input"))
        return Text(((prompt, False), (output, True)))
