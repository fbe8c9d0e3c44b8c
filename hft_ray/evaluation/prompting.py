"""Prompts as the model reads them: with solved examples and the chat template."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hft_ray.config import ConfigError
from hft_ray.data import encode_text, join, split
from hft_ray.data.chat import PLAIN_ANSWERS, answer_start, apply_template, common_prefix
from hft_ray.data.problems import placed
from hft_ray.evaluation.items import Shot, Text, Turns

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

BETWEEN = "\n\n"
"""Between two solved examples in plain text, as in lm-eval."""


def show(prompt: Text, shots: Sequence[Shot], chat: bool) -> Text:
    """Return ``prompt`` after the solved examples.

    In plain text each is its prompt and its answer with a space between, where the prompt does not
    end with white space, and an empty line after it. In a dialogue, or with ``chat``, each is a
    user's turn and the assistant's.
    """
    if chat or not isinstance(prompt, str) or not all(isinstance(each, str) for each, _ in shots):
        before = [turn for each, answer in shots for turn in (*_turns(each), _answer(answer))]
        return (*before, *_turns(prompt))
    return "".join(f"{each}{gap(each, answer)}{answer}{BETWEEN}" for each, answer in shots) + prompt


def gap(prompt: Text, answer: str) -> str:
    """Return the separator of a plain prompt and its answer: a space, or "" after white space."""
    between = isinstance(prompt, str) and prompt[-1:].strip() and answer[:1].strip()
    return " " if between else ""


def encode_prompt(tokenizer: PreTrainedTokenizerBase, prompt: Text, path: str) -> list[int]:
    """Return the tokens of a prompt.

    A plain prompt stands without the blanks at its end, which the answer begins with; a dialogue is
    written by the chat template, with the assistant's header at its end.

    Raises:
        ConfigError: The chat template is missing or refuses the dialogue.
    """
    if isinstance(prompt, str):
        prompt, _ = split(prompt)
    return encode_text(tokenizer, render_prompt(tokenizer, prompt, path))


def encode_answered(
    tokenizer: PreTrainedTokenizerBase, prompt: Text, answer: str, path: str
) -> tuple[list[int], int]:
    """Return the tokens of a prompt and its answer, and how many of them are the prompt's.

    They are those of training on both, without an end: after a plain prompt stands a space, unless
    there is white space, and the answer; after a dialogue what the chat template makes of it.

    Raises:
        ConfigError: The chat template is missing or refuses the dialogue.
    """
    if isinstance(prompt, str):
        return join(tokenizer, *split(prompt, f"{gap(prompt, answer)}{answer}"))
    header = render_prompt(tokenizer, prompt, path)
    whole = render_prompt(tokenizer, (*prompt, _answer(answer)), path, header=False)
    start = answer_start(header, [whole], lambda: _bare(tokenizer, prompt, path))
    content = answer.strip()
    place = whole.find(content, start)
    # A template that writes the answer otherwise: all that it writes, its end included.
    end = place + len(content) if place >= 0 else len(whole)
    return join(tokenizer, whole[:start], whole[start:end])


def _bare(tokenizer: PreTrainedTokenizerBase, prompt: Turns, path: str) -> str:
    """Return the text before a plain answer."""
    one, other = (
        render_prompt(tokenizer, (*prompt, _answer(answer)), path, header=False)
        for answer in PLAIN_ANSWERS
    )
    return one[: common_prefix(one, other)]


def render_prompt(
    tokenizer: PreTrainedTokenizerBase, prompt: Text, path: str, *, header: bool = True
) -> str:
    """Return a prompt as text; after a dialogue stands the assistant's header if asked for.

    Raises:
        ConfigError: The chat template is missing or refuses the dialogue.
    """
    if isinstance(prompt, str):
        return prompt
    try:
        return apply_template(tokenizer, prompt, header=header)
    except ConfigError as error:
        raise ConfigError(placed(each, path) for each in error.problems) from error


def _turns(prompt: Text) -> Turns:
    return ({"role": "user", "content": prompt},) if isinstance(prompt, str) else prompt


def _answer(answer: str) -> dict[str, Any]:
    return {"role": "assistant", "content": answer}
