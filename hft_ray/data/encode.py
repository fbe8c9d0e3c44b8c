"""Turns an example into token ids and labels, with the loss on the answers only.

The whole text is tokenised at once, so that tokens are those the model meets at inference, and the
characters of the trained spans are mapped to tokens by their offsets.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

from hft_ray.config import ConfigError, Problem
from hft_ray.data.chat import Span, render
from hft_ray.data.examples import Dialogue, Example, Text

if TYPE_CHECKING:
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
    """

    input_ids: list[int]
    labels: list[int]
    cut: bool

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
    if isinstance(example, Dialogue):
        text, spans = render(tokenizer, example)
    else:
        text, spans = _join(example)
    tokens = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    ids: list[int] = tokens["input_ids"]
    labels = _labels(text, ids, tokens["offset_mapping"], spans)
    bos = leading_bos(tokenizer)
    if bos and ids[:1] != bos:
        ids, labels = bos + ids, [IGNORED, *labels]
    eos = tokenizer.eos_token_id
    if isinstance(example, Text) and eos is not None and ids[-1:] != [eos]:
        ids, labels = [*ids, eos], [*labels, eos]
    if labels:
        labels[0] = IGNORED
    return Encoded(ids[:max_length], labels[:max_length], cut=len(ids) > max_length)


def encode_text(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Return the tokens of ``text``, with a beginning-of-sequence token if the tokenizer puts one.

    No end-of-sequence token is added: the text goes on, or nothing says that it ends.
    """
    ids: list[int] = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    bos = leading_bos(tokenizer)
    return ids if ids[: len(bos)] == bos else bos + ids


def leading_bos(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Return [BOS] for a tokenizer that puts one before plain text, else []."""
    bos = tokenizer.bos_token_id
    first: list[int] = tokenizer("")["input_ids"][:1]
    return first if bos is not None and first == [bos] else []


def _join(example: Text) -> tuple[str, list[Span]]:
    ends = list(accumulate(len(segment) for segment, _ in example.segments))
    spans = [
        (end - len(segment), end)
        for end, (segment, trained) in zip(ends, example.segments, strict=True)
        if trained
    ]
    return "".join(segment for segment, _ in example.segments), spans


def _labels(text: str, ids: list[int], offsets: list[Span], spans: list[Span]) -> list[int]:
    """Label the tokens that lie in one of the ``spans``, which are in order and do not overlap."""
    labels = [IGNORED] * len(ids)
    index = 0
    for start, end in spans:
        while index < len(ids) and not _inside(text, offsets[index], start, end):
            index += 1
        while index < len(ids) and _inside(text, offsets[index], start, end):
            labels[index] = ids[index]
            index += 1
    return labels


def _inside(text: str, token: Span, start: int, end: int) -> bool:
    """Whether a token belongs to the characters [start, end).

    A token that begins before them belongs to the prompt, unless it takes only white space from
    there: after the prompt "A: " the answer "Paris" is the token " Paris". Tokenizers that trim
    offsets give white space an empty span at its own end.
    """
    first, last = token
    if first == last:
        return start < last <= end
    return last > start and first < end and not text[first:start].strip()
