"""Reads the turns of a dialogue, as OpenAI, ShareGPT, LLaMA-Factory, axolotl and TRL write them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from hft_ray.data.examples import Message
from hft_ray.data.reader import FieldReader

ROLES = {
    "system": "system",
    "developer": "developer",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "model": "assistant",
    "function_call": "assistant",
    "tool": "tool",
    "function": "tool",
    "observation": "tool",
    "ipython": "tool",
}
"""Role of a record -> role of chat templates."""

_REASONING = ("reasoning_content", "reasoning", "thinking")
_FLAGS = ("weight", "train", "training", "loss")


def read_turns(reader: FieldReader, name: str) -> list[Message]:
    """Return the turns in the field ``name``: a list, or a single one.

    Raises:
        ConfigError: It is something else, or a turn is not what it should be.
    """
    turns = reader.field(name)
    if isinstance(turns, dict):
        turns = [turns]
    if not isinstance(turns, list) or not turns:
        raise reader.error(f"field {name!r} must be a list of at least one message", turns)
    return [_turn(reader, turn, f"{name}[{number}]") for number, turn in enumerate(turns)]


def _turn(reader: FieldReader, turn: Any, place: str) -> Message:
    if not isinstance(turn, dict):
        raise reader.error(f"{place} must be an object with the fields role and content", turn)
    given = _first(turn, ("role", "from"))
    if not isinstance(given, str) or given not in ROLES:
        allowed = ", ".join(ROLES)
        raise reader.error(f"{place} needs a field 'role' (or 'from'), one of {allowed}", turn)
    role = ROLES[given]
    content = _first(turn, ("content", "value"))
    calls: Any = turn.get("tool_calls")
    if given == "function_call":
        calls, content = content, None
    elif turn.get("function_call"):
        calls = [*(calls or []), {"function": turn["function_call"]}]
    calls = _calls(reader, calls, place)
    reasoning = _reasoning(reader, turn, place)
    if (calls or reasoning) and role != "assistant":
        raise reader.error(
            f"{place} has tool calls or reasoning, which only an assistant has", turn
        )
    if content is None and not calls and not reasoning:
        message = f"{place} needs a field 'content' (or 'value') that is a string"
        if turn.get("refusal"):
            message += "; write there what the assistant says in refusal"
        raise reader.error(message, turn)
    return Message(
        role,
        _text(reader, content, f"{place}.content"),
        trained=_trained(reader, turn, role, place),
        calls=tuple(calls),
        reasoning=reasoning,
        labels={name: turn[name] for name in ("name", "tool_call_id") if _named(turn, name)},
    )


def _first(turn: dict[str, Any], names: Sequence[str]) -> Any:
    return next((turn[name] for name in names if turn.get(name) is not None), None)


def _named(turn: dict[str, Any], name: str) -> bool:
    return isinstance(turn.get(name), str)


def _text(reader: FieldReader, content: Any, place: str) -> str:
    """Return the text of a turn: a string, or parts of which each is text."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise reader.error(f"{place} must be a string, or a list of parts of type 'text'", content)
    texts = []
    for number, part in enumerate(content):
        text = part.get("text") if isinstance(part, dict) and part.get("type") == "text" else part
        if not isinstance(text, str):
            kind = part.get("type") if isinstance(part, dict) else type(part).__name__
            message = f"{place}[{number}] is a part of type {kind!r}; only text is trained"
            raise reader.error(message, part)
        texts.append(text)
    return "".join(texts)


def _calls(reader: FieldReader, given: Any, place: str) -> list[dict[str, Any]]:
    """Return tool calls in OpenAI's form, their arguments as objects."""
    given = reader.parsed(given, f"{place}: the tool call") or []
    calls = []
    for call in given if isinstance(given, list) else [given]:
        function = call.get("function", call) if isinstance(call, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            message = f'{place}: a tool call must be {{"function": {{"name", "arguments"}}}}'
            raise reader.error(message, given)
        arguments = reader.parsed(function.get("arguments"), f"{place}: arguments") or {}
        if not isinstance(arguments, dict):
            message = f"{place}: the arguments of a tool call must be an object, or JSON of one"
            raise reader.error(message, arguments)
        if not _is_json(arguments):
            message = (
                f"{place}: the arguments of a tool call hold NaN or Infinity, which JSON lacks"
            )
            raise reader.error(message, arguments)
        labels = {"id": call["id"]} if _named(call, "id") else {}
        called = {"name": function["name"], "arguments": arguments}
        calls.append({**labels, "type": "function", "function": called})
    return calls


def _is_json(value: Any) -> bool:
    try:
        json.dumps(value, allow_nan=False, default=str)
    except ValueError:
        return False
    return True


def _reasoning(reader: FieldReader, turn: dict[str, Any], place: str) -> str:
    given = {name: turn[name] for name in _REASONING if turn.get(name)}
    for name, text in given.items():
        if not isinstance(text, str):
            raise reader.error(f"{place}.{name} must be a string", text)
    if len(set(given.values())) > 1:
        raise reader.error(f"{place} has two different reasonings: keep one", given)
    return next(iter(given.values()), "")


def _trained(reader: FieldReader, turn: dict[str, Any], role: str, place: str) -> bool:
    flags = {name: turn[name] for name in _FLAGS if turn.get(name) is not None}
    for name, flag in flags.items():
        if not isinstance(flag, int | float) or flag not in (0, 1):
            message = f"{place}.{name} must be 0 or 1 (false or true): a turn is trained or not"
            raise reader.error(message, flag)
    if role == "assistant":
        return all(flags.values())
    if any(flags.values()):
        raise reader.error(f"{place} is to be trained; only an assistant's turns are", turn)
    return False
