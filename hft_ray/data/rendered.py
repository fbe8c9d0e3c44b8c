"""Looks whether what a record says is in the text that the chat template made of it.

Templates drop what they do not know (tools, roles, reasoning) without a word. White space does not
count: many templates strip it, or put reasoning on lines of its own.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from hft_ray.config import ConfigError, Problem
from hft_ray.data.examples import Message

_SHOWN = 60
_SHORT = 12
MARK = "xqzx"
"""Letters that no template writes."""
OTHER_TEMPLATE = (
    "take a model whose template renders it, or save such a chat_template.jinja beside the "
    "tokenizer"
)


def require_context(text: str, messages: Sequence[Message]) -> None:
    """Refuse a dialogue of which the template drops a tool call, or a turn's text.

    What an assistant's turn says is not asked for here: templates may shorten earlier answers.

    Args:
        text: The whole dialogue as rendered.
        messages: Its turns.

    Raises:
        ConfigError: Something is not in the text.
    """
    found = _dense(text)
    for index, message in enumerate(messages):
        if message.role == "assistant":
            _require_calls(found, message, f"messages[{index}]")
        elif not _there(message.content, found):
            raise left_out(message, index)


def left_out(message: Message, index: int) -> ConfigError:
    """Return the error of turn ``index``, from 0, that the template leaves out."""
    said = f"the chat template leaves out this turn of role {message.role}, or writes another text"
    return _dropped(f"messages[{index}]", f"{said}; {OTHER_TEMPLATE}", message.content)


def is_short(message: Message) -> bool:
    """Whether a turn has so few letters that a text may hold them by chance."""
    return 0 < len(_dense(message.content)) < _SHORT


def answer_in(text: str, message: Message) -> bool:
    """Whether ``require_answer`` finds all of an answer in ``text``."""
    try:
        require_answer(text, message, "")
    except ConfigError:
        return False
    return True


def require_answer(text: str, message: Message, place: str) -> None:
    """Refuse an answer of which the template drops a part.

    Args:
        text: The part of the rendered text that holds the turn.
        message: The turn.
        place: Its place in the record, for errors.

    Raises:
        ConfigError: Its content, its reasoning or a tool call is not in the text.
    """
    found = _dense(text)
    if not _there(message.reasoning, found):
        said = (
            f"the chat template drops this answer's reasoning, which would not be trained; "
            f"{OTHER_TEMPLATE}, write it into content, or add the field to ignore_fields"
        )
        raise _dropped(place, said, message.reasoning)
    if not _there(message.content, found):
        said = (
            "the chat template drops a part of this text (some drop what is before </think>) or "
            f"writes it otherwise, so it would not be trained; {OTHER_TEMPLATE}, or write the text "
            "as the template does"
        )
        raise _dropped(place, said, message.content)
    _require_calls(found, message, place)


def _require_calls(found: str, message: Message, place: str) -> None:
    for call in message.calls:
        said = [call["function"]["name"], *_leaves(call["function"]["arguments"])]
        if missing := [each for each in said if not _there(each, found)]:
            text = (
                f"the chat template does not render the turn's tool_calls; {OTHER_TEMPLATE}, or "
                "add 'tool_calls' to ignore_fields"
            )
            raise ConfigError(Problem(place, text, missing))


def _dropped(place: str, message: str, text: str) -> ConfigError:
    return ConfigError(Problem(place, message, text[:_SHOWN]))


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _leaves(item)
    else:
        yield value


def _there(value: Any, found: str) -> bool:
    """Whether a value is in text without white space: as it is, or as JSON or Python write it."""
    if isinstance(value, str):
        ways = [value, *(json.dumps(value, ensure_ascii=each)[1:-1] for each in (True, False))]
    else:
        ways = [json.dumps(value), str(value)]
    return any(_dense(way) in found for way in ways)


def _dense(text: str) -> str:
    return "".join(text.split())
