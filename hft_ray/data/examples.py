"""The forms that every training record is turned into: a dialogue or a text, or a pair of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Message:
    """One turn of a dialogue.

    Attributes:
        role: Its role, in the words of chat templates; ``developer`` where a record says so.
        content: Its text.
        trained: Whether the loss covers it.
        calls: Tool calls of an assistant's turn, as OpenAI writes them; arguments are objects.
        reasoning: What the assistant thinks before it answers, where a record keeps it apart.
        labels: ``name`` and ``tool_call_id``, passed to the chat template as they are.
    """

    role: str
    content: str
    trained: bool
    calls: tuple[Mapping[str, Any], ...] = ()
    reasoning: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)

    def as_turn(self) -> dict[str, Any]:
        """Return the turn as chat templates take it; keys that would say nothing are left out.

        Of the names of reasoning, Qwen reads the first, gpt-oss the second, others the third.
        """
        turn: dict[str, Any] = {"role": self.role, "content": self.content, **self.labels}
        if self.calls:
            turn["tool_calls"] = [dict(call) for call in self.calls]
        if self.reasoning:
            names = ("reasoning_content", "thinking", "reasoning")
            turn |= dict.fromkeys(names, self.reasoning)
        return turn


@dataclass(frozen=True)
class TemplateArguments:
    """What the chat template is given beside the turns.

    Attributes:
        tools: Descriptions of functions, as OpenAI writes them.
        settings: ``chat_template_kwargs`` of the record, such as ``enable_thinking``.
    """

    tools: tuple[Mapping[str, Any], ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)


TURNS_ALONE = TemplateArguments()


@dataclass(frozen=True)
class Dialogue:
    """Turns that the tokenizer's chat template renders."""

    messages: tuple[Message, ...]
    arguments: TemplateArguments = TURNS_ALONE


@dataclass(frozen=True)
class Text:
    """Segments of one text, each with whether the loss covers it."""

    segments: tuple[tuple[str, bool], ...]


Example = Dialogue | Text


@dataclass(frozen=True)
class TextPair:
    """A prompt and two answers as text."""

    prompt: str
    chosen: str
    rejected: str


@dataclass(frozen=True)
class DialoguePair:
    """A prompt and two answers as turns, each at least one, that the chat template renders.

    Attributes:
        prompt: The turns before the answers.
        chosen: The better answer; it ends with an assistant's turn.
        rejected: The worse answer; likewise.
        arguments: What the chat template is given beside the turns.
        where: Where the record was read, for errors.
    """

    prompt: tuple[Message, ...]
    chosen: tuple[Message, ...]
    rejected: tuple[Message, ...]
    arguments: TemplateArguments = TURNS_ALONE
    where: str = field(default="", compare=False)


Pair = TextPair | DialoguePair
