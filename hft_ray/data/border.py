"""Where an answer begins: the one way in which a prompt and its answer become tokens.

A model is asked with the tokens of the prompt alone. So whatever is trained or compared begins with
exactly these, and the rest are the answer's:

* Blanks at the end of a plain prompt (white space but line breaks) go to the answer, since
  tokenizers merge them with the word that follows: after "A: " the answer "Paris" is " Paris".
  lm-eval does so for log-likelihoods, and with line breaks too. What a chat template writes is left
  as it is: that is what everybody asks the model with.
* Prompt and answer are tokenised as one text. Where that does not begin with the prompt's own
  tokens (a token crosses the border, or the prompt's end is split otherwise), the answer's are made
  apart.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from operator import itemgetter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Span = tuple[int, int]

_BLANKS = re.compile(r"[^\S\r\n]*\Z")

_MARKS = ("\n", ".", "a")
"""What a text may go on from: no tokenizer merges all of these with what comes next."""


@dataclass(frozen=True)
class Tokens:
    """The tokens of a text.

    Attributes:
        ids: Token ids, [T].
        offsets: The characters [first, last) of each in the text, [T].
        borders: For each border that was asked for, the number of tokens before it.
    """

    ids: list[int]
    offsets: list[Span]
    borders: list[int]


def split(prompt: str, answer: str = "") -> tuple[str, str]:
    """Return a plain prompt without the blanks at its end, and the answer after these."""
    blanks = _BLANKS.search(prompt)
    assert blanks is not None
    return prompt[: blanks.start()], blanks.group() + answer


def tokenise(tokenizer: PreTrainedTokenizerBase, text: str, borders: Sequence[int]) -> Tokens:
    """Tokenise ``text`` so that it has a token border at each of ``borders``.

    Before the first of them stand the tokens that the text has up to there when it stands alone;
    before a later one too, unless the text had to be taken apart at an earlier one.

    Args:
        tokenizer: A fast tokenizer. Its beginning-of-sequence token is not added here.
        text: The text.
        borders: Places in it, in characters, ascending.
    """
    ids, offsets = _tokens(tokenizer, text)
    cut = start = 0  # characters and tokens before what is taken as one
    counts: list[int] = []
    for border in borders:
        near = _last_special(tokenizer, text, ids, offsets, start, border)
        if near is not None:
            # What comes before a special token has no part in the tokens after it.
            again = offsets[near][0]
            before, places = _tokens(tokenizer, text[again:border])
            before = ids[start:near] + before
            places = _moved(offsets[start:near], -cut) + _moved(places, again - cut)
        elif cut:
            before, places = _continued(tokenizer, text[cut:border])
        else:
            before, places = _tokens(tokenizer, text[:border])
        count = start + len(before)
        crossed = any(last > border for _, last in offsets[start:count])
        if ids[start:count] != before or crossed:
            after, others = _continued(tokenizer, text[border:])
            ids = ids[:start] + before + after
            offsets = offsets[:start] + _moved(places, cut) + _moved(others, border)
            cut, start = border, count
        counts.append(count)
    return Tokens(ids, offsets, counts)


def join(tokenizer: PreTrainedTokenizerBase, prompt: str, answer: str) -> tuple[list[int], int]:
    """Return the tokens of a prompt and its answer, and how many of them are the prompt's.

    These are ``encode_text(tokenizer, prompt)``. Of a plain prompt ``split`` it first.
    """
    tokens = tokenise(tokenizer, prompt + answer, [len(prompt)])
    bos = missing_bos(tokenizer, tokens.ids)
    return bos + tokens.ids, len(bos) + tokens.borders[0]


def encode_text(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Return the tokens of ``text``, with a beginning-of-sequence token if the tokenizer puts one.

    No end-of-sequence token is added: the text goes on, or nothing says that it ends.
    """
    ids, _ = _tokens(tokenizer, text)
    return missing_bos(tokenizer, ids) + ids


def missing_bos(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> list[int]:
    """Return [BOS] if the tokenizer puts one before plain text and ``ids`` lack it, else []."""
    bos = leading_bos(tokenizer)
    return [] if ids[: len(bos)] == bos else bos


def leading_bos(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Return [BOS] for a tokenizer that puts one before plain text, else []."""
    if tokenizer.bos_token_id is None:
        return []
    first: list[int] = tokenizer("")["input_ids"][:1]
    return first if first == [tokenizer.bos_token_id] else []


def _last_special(
    tokenizer: PreTrainedTokenizerBase,
    text: str,
    ids: list[int],
    offsets: list[Span],
    start: int,
    border: int,
) -> int | None:
    """Return the last special token from ``start`` on that ends before ``border`` or there."""
    special = _special(tokenizer)
    end = bisect_right(offsets, border, lo=start, key=itemgetter(1))
    for place in range(end - 1, start - 1, -1):
        first, last = offsets[place]
        if ids[place] in special and text[first:last] == special[ids[place]]:
            return place
    return None


@lru_cache(maxsize=4)
def _special(tokenizer: PreTrainedTokenizerBase) -> dict[int, str]:
    """Return the tokens that split a text before anything else looks at it."""
    added = tokenizer.added_tokens_decoder.items()
    return {place: token.content for place, token in added if not token.normalized}


def _tokens(tokenizer: PreTrainedTokenizerBase, text: str) -> tuple[list[int], list[Span]]:
    found = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    return found["input_ids"], found["offset_mapping"]


def _continued(tokenizer: PreTrainedTokenizerBase, text: str) -> tuple[list[int], list[Span]]:
    """Tokenise a text that goes on from another: some tokenizers put a space before any text."""
    for mark in _MARKS:
        alone, _ = _tokens(tokenizer, mark)
        ids, offsets = _tokens(tokenizer, mark + text)
        count = len(alone)
        if ids[:count] == alone and all(last <= len(mark) for _, last in offsets[:count]):
            return ids[count:], _moved(offsets[count:], -len(mark))
    return _tokens(tokenizer, text)


def _moved(offsets: list[Span], by: int) -> list[Span]:
    return [(first + by, last + by) for first, last in offsets]
