"""Renders a dialogue with the tokenizer's chat template and finds the trained turns in the text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jinja2 import TemplateError

from hft_ray.config import ConfigError, Problem

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import PreTrainedTokenizerBase

    from hft_ray.data.formats import Dialogue, Message

Span = tuple[int, int]


def require_template(tokenizer: PreTrainedTokenizerBase) -> None:
    """Refuse a tokenizer that cannot render dialogues.

    Raises:
        ConfigError: It has no chat template.
    """
    if tokenizer.chat_template is None:
        raise ConfigError(
            Problem(
                "model.name",
                "the tokenizer has no chat template, which dialogues (messages, sharegpt) need; "
                "take an instruction-tuned model, save a chat_template.jinja beside its "
                "tokenizer, or write the data as prompt_completion strings or text",
                tokenizer.name_or_path,
            )
        )


def render(tokenizer: PreTrainedTokenizerBase, dialogue: Dialogue) -> tuple[str, list[Span]]:
    """Render ``dialogue``, and find its trained turns by rendering it turn by turn.

    Returns:
        The text, and for each trained turn the span of characters [start, end) that begins after
        the template's assistant header and ends after its end-of-turn mark.

    Raises:
        ConfigError: No template, the template refuses the dialogue, or it writes earlier turns
            otherwise once later ones follow, so that the turns have no place in the whole.
    """
    require_template(tokenizer)
    text = render_turns(tokenizer, dialogue.messages)
    spans = [
        _span(tokenizer, dialogue.messages, index, text)
        for index, message in enumerate(dialogue.messages)
        if message.trained
    ]
    return text, spans


def _span(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], index: int, text: str
) -> Span:
    header = render_turns(tokenizer, messages[:index], header=True)
    upto = render_turns(tokenizer, messages[: index + 1])
    start = len(header)
    if not text.startswith(header):
        # Reasoning templates end the header with a mark (<think>) that a plain answer lacks.
        before = render_turns(tokenizer, messages[:index])
        start = common_prefix(header, text)
        if not text.startswith(before) or start < len(before):
            raise _rewrites(index)
    if not text.startswith(upto):
        raise _rewrites(index)
    return start, len(upto)


def common_prefix(a: Sequence[object], b: Sequence[object]) -> int:
    """Return the number of items (characters, tokens, turns) that both begin with alike."""
    pairs = enumerate(zip(a, b, strict=False))
    return next((place for place, (x, y) in pairs if x != y), min(len(a), len(b)))


def _rewrites(index: int) -> ConfigError:
    message = (
        "the chat template writes this turn, or one before it, otherwise once later turns follow "
        "(some templates drop reasoning from earlier turns), so the trained text is not defined; "
        "use a template that keeps earlier turns, or one answer per record"
    )
    return ConfigError(Problem(f"messages[{index}]", message))


def render_turns(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], *, header: bool = False
) -> str:
    """Render ``messages``, with the header of an assistant's turn after them if asked for.

    Raises:
        ConfigError: The template refuses them.
    """
    turns = [{"role": message.role, "content": message.content} for message in messages]
    try:
        text: str = tokenizer.apply_chat_template(
            turns, tokenize=False, add_generation_prompt=header
        )
    except TemplateError as error:
        roles = [message.role for message in messages]
        problem = Problem("messages", f"the chat template refuses these roles: {error}", roles)
        raise ConfigError(problem) from error
    return text
