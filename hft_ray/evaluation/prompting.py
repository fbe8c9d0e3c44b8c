"""What the model is shown before it answers: solved examples, and the chat template."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hft_ray.config import ConfigError
from hft_ray.data import encode_text
from hft_ray.data.chat import apply_template
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
    return "".join(f"{each}{gap(each)}{answer}{BETWEEN}" for each, answer in shots) + prompt


def gap(prompt: Text) -> str:
    """Return what stands between a plain prompt and its answer: a space if nothing does yet."""
    return " " if isinstance(prompt, str) and prompt[-1:].strip() else ""


def encode_prompt(tokenizer: PreTrainedTokenizerBase, prompt: Text, path: str) -> list[int]:
    """Tokenise a prompt; a dialogue by the chat template, with the assistant's header at its end.

    Raises:
        ConfigError: The chat template is missing or refuses the dialogue.
    """
    return encode_text(tokenizer, render_prompt(tokenizer, prompt, path))


def render_prompt(tokenizer: PreTrainedTokenizerBase, prompt: Text, path: str) -> str:
    """Return a prompt as the text that is tokenised. See :func:`encode_prompt`."""
    if isinstance(prompt, str):
        return prompt
    try:
        return apply_template(tokenizer, prompt, header=True)
    except ConfigError as error:
        raise ConfigError(placed(each, path) for each in error.problems) from error


def _turns(prompt: Text) -> Turns:
    return ({"role": "user", "content": prompt},) if isinstance(prompt, str) else prompt


def _answer(answer: str) -> dict[str, Any]:
    return {"role": "assistant", "content": answer}
