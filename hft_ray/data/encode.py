"""Turns an example into token ids and labels, with the loss on the answers only.

What comes before an answer is tokenised as it is when the model is asked (see ``border``), so what
is trained is what follows then.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import accumulate
from typing import TYPE_CHECKING

from hft_ray.config import ConfigError, Problem
from hft_ray.data.border import Span, missing_bos, split, tokenise
from hft_ray.data.chat import render
from hft_ray.data.examples import Example, Text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import PreTrainedTokenizerBase

IGNORED = -100
"""Label of a token that is not trained, as in torch's cross-entropy."""


@dataclass(frozen=True)
class Encoded:
    """One tokenised example.

    Attributes:
        input_ids: Token ids, [T].
        labels: The same where a token is trained, else -100, [T]; not shifted (the model shifts).
            The first is always -100: nothing comes before it that could predict it.
        cut: Whether tokens beyond the maximal length were cut.
        ended: Whether something after each answer says that it ends, and is trained.
    """

    input_ids: list[int]
    labels: list[int]
    cut: bool
    ended: bool = True

    @property
    def answer_tokens(self) -> int:
        """Number of trained target positions."""
        return sum(label != IGNORED for label in self.labels)


def encode(tokenizer: PreTrainedTokenizerBase, example: Example, max_length: int) -> Encoded:
    """Tokenise ``example`` and label its trained tokens.

    A beginning-of-sequence token is put first if the tokenizer does so for plain text and the
    text does not begin with it. A text (not a dialogue, where the template decides) ends with the
    end-of-sequence token, which is trained. What is longer than ``max_length`` tokens is cut at
    the end.

    Raises:
        ConfigError: The tokenizer is a slow one, or its chat template cannot render the dialogue.
    """
    if not tokenizer.is_fast:
        message = "needs a fast tokenizer (tokenizer.json), which knows where its tokens lie"
        raise ConfigError(Problem("model.name", message, tokenizer.name_or_path))
    if isinstance(example, Text):
        text, spans = _join(example)
        return _encode(tokenizer, text, spans, max_length, tokenizer.eos_token_id)
    text, spans = render(tokenizer, example)
    answers = [message.content for message in example.messages if message.trained]
    return encode_turns(tokenizer, text, spans, answers, max_length)


def encode_turns(
    tokenizer: PreTrainedTokenizerBase,
    text: str,
    spans: Sequence[Span],
    answers: Sequence[str],
    max_length: int,
) -> Encoded:
    """Tokenise a rendered dialogue and label the tokens of its trained turns.

    Args:
        tokenizer: A fast tokenizer.
        text: What the chat template makes of the dialogue.
        spans: The trained turns [start, end) in it, in characters, in order.
        answers: The contents of these turns.
        max_length: Most tokens.
    """
    made = _encode(tokenizer, text, spans, max_length, end=None)
    turns = [text[first:last].rstrip() for first, last in spans]
    endless = any(
        answer.strip() and turn.endswith(answer.strip())
        for turn, answer in zip(turns, answers, strict=True)
    )
    return replace(made, ended=not endless)


def _encode(
    tokenizer: PreTrainedTokenizerBase,
    text: str,
    spans: Sequence[Span],
    max_length: int,
    end: int | None,
) -> Encoded:
    """Tokenise ``text``, put the token ``end`` behind it, and label its spans and the end."""
    tokens = tokenise(tokenizer, text, [start for start, _ in spans])
    ids = tokens.ids
    labels = [IGNORED] * len(ids)
    for first, (_, last) in zip(tokens.borders, spans, strict=True):
        after = (place for place in range(first, len(ids)) if _begins(tokens.offsets[place], last))
        stop = next(after, len(ids))
        labels[first:stop] = ids[first:stop]
    bos = missing_bos(tokenizer, ids)
    ids, labels = bos + ids, [IGNORED] * len(bos) + labels
    if end is not None and ids[-1:] != [end]:
        ids, labels = [*ids, end], [*labels, end]
    if labels:
        labels[0] = IGNORED
    cut, ended = len(ids) > max_length, end is not None
    return Encoded(ids[:max_length], labels[:max_length], cut, ended)


def _join(example: Text) -> tuple[str, list[Span]]:
    """Return the whole text and its trained spans, each with the blanks before it."""
    text = "".join(segment for segment, _ in example.segments)
    ends = list(accumulate(len(segment) for segment, _ in example.segments))
    spans: list[Span] = []
    for last, (segment, trained) in zip(ends, example.segments, strict=True):
        if trained:
            before, _ = split(text[: last - len(segment)])
            spans.append((max([len(before), *(each for _, each in spans[-1:])]), last))
    return text, spans


def _begins(token: Span, place: int) -> bool:
    """Whether a token begins at ``place`` or later.

    Tokenizers that trim offsets give white space an empty span at its own end.
    """
    first, last = token
    return first >= place and not first == last == place
