"""Where an assistant's turn ends: what the chat template writes after an answer.

A chat template may end a turn with another token than the tokenizer's end-of-sequence token
(base models with a ChatML template, such as Qwen2.5's, whose EOS is <|endoftext|>). A model that
learned from dialogues ends its answers with that token, so generation has to end there, too.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hft_ray.config import ConfigError
from hft_ray.data.chat import apply_template

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_log = logging.getLogger(__name__)

_QUESTION, _ANSWER = "Question?", "Qanswerq"
_DIALOGUE = ({"role": "user", "content": _QUESTION}, {"role": "assistant", "content": _ANSWER})


@dataclass(frozen=True)
class TurnEnd:
    """The end of an assistant's turn.

    Attributes:
        token: The first special token after the answer; ``None`` if there is none.
        text: What stands between the answer and that token, white space around it left out.
    """

    token: int | None = None
    text: str = ""


def turn_end(tokenizer: PreTrainedTokenizerBase) -> TurnEnd:
    """Return what the chat template writes after an answer; nothing where there is no template."""
    if tokenizer.chat_template is None:
        return TurnEnd()
    try:
        dialogue = apply_template(tokenizer, _DIALOGUE)
    except ConfigError:
        # It needs other roles; dialogues that it refuses are reported with their place.
        return TurnEnd()
    rest = dialogue.rpartition(_ANSWER)[2] if _ANSWER in dialogue else ""
    tokens = tokenizer(rest, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    known = tokenizer.added_tokens_decoder
    for token, (first, _) in zip(tokens["input_ids"], tokens["offset_mapping"], strict=True):
        # Some vocabularies have runs of spaces or line breaks as added tokens.
        if token in known and known[token].content.strip():
            return TurnEnd(token, rest[:first].strip())
    return TurnEnd(None, rest.strip())


def warn_of_endless(name: str, endless: int, tokenizer: PreTrainedTokenizerBase) -> None:
    """Log that a model which learns from the data set ``name`` does not learn to stop.

    Args:
        name: The data set.
        endless: Of its examples, those in which nothing after an answer says that it ends.
        tokenizer: Says why.
    """
    if not endless:
        return
    reason = (
        "the tokenizer has no end-of-sequence token (eos_token)"
        if tokenizer.eos_token_id is None
        else "the chat template writes nothing after an answer"
    )
    _log.warning(
        "%s: in %d examples nothing says where an answer ends, since %s: the model does not learn "
        "to stop, and what it writes goes on to max_new_tokens or a stop string",
        *(name, endless, reason),
    )


def end_tokens(
    tokenizer: PreTrainedTokenizerBase, known: int | Sequence[int] | None = None
) -> list[int]:
    """Return the tokens that end what a model writes, each once.

    Args:
        tokenizer: Its end-of-sequence token and the end of an assistant's turn are among them.
        known: ``eos_token_id`` of the model's generation configuration; these come first.
    """
    first = [known] if isinstance(known, int) else list(known or ())
    found = [*first, tokenizer.eos_token_id, turn_end(tokenizer).token]
    return list(dict.fromkeys(token for token in found if token is not None))
