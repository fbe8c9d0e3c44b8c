"""SARI: the quality of a simplification by the n-grams that it keeps, deletes and adds.

Xu et al., "Optimizing Statistical Machine Translation for Text Simplification", TACL 4 (2016),
section 4. No library that is a dependency has it; it agrees with the metric ``sari`` of
Hugging Face's evaluate: 0/0 counts as 1, recall of what is kept is over occurrences, texts are in
lower case and split by sacrebleu's tokeniser 13a.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import cache

LONGEST = 4
"""n-grams of 1 to 4 tokens are compared."""

Grams = Counter[tuple[str, ...]]


def sari(source: str, text: str, references: Sequence[str]) -> float:
    """Return SARI in [0, 1] (the paper gives it times 100).

    Args:
        source: The text to simplify.
        text: The simplification.
        references: Right simplifications, one or more.
    """
    before, after, *right = (_tokens(each) for each in (source, text, *references))
    total = 0.0
    for length in range(1, LONGEST + 1):
        wanted = sum((_grams(each, length) for each in right), Grams())
        old, new = _grams(before, length), _grams(after, length)
        # Each text counts as often as there are references, so that their counts compare.
        many = Counter({gram: count * len(right) for gram, count in old.items()})
        made = Counter({gram: count * len(right) for gram, count in new.items()})
        total += _kept(many, made, wanted) + _deleted(many, made, wanted) + _added(old, new, wanted)
    return total / (3 * LONGEST)


def _kept(source: Grams, text: Grams, wanted: Grams) -> float:
    kept, possible = source & text, source & wanted
    right = kept & wanted
    recall = right.total() / possible.total() if possible else 1.0
    return _f1(_mean_share(right, kept), recall)


def _deleted(source: Grams, text: Grams, wanted: Grams) -> float:
    deleted = source - text
    return _mean_share(deleted - wanted, deleted)


def _added(source: Grams, text: Grams, wanted: Grams) -> float:
    added, possible = set(text) - set(source), set(wanted) - set(source)
    right = len(added & possible)
    precision = right / len(added) if added else 1.0
    return _f1(precision, right / len(possible) if possible else 1.0)


def _mean_share(part: Grams, whole: Grams) -> float:
    """Return the mean over the n-grams of ``whole`` of the share that ``part`` has of them."""
    if not whole:
        return 1.0
    return sum(part[gram] / count for gram, count in whole.items()) / len(whole)


def _f1(precision: float, recall: float) -> float:
    both = precision + recall
    return 2 * precision * recall / both if both else 0.0


def _grams(tokens: Sequence[str], length: int) -> Grams:
    return Counter(
        tuple(tokens[start : start + length]) for start in range(len(tokens) - length + 1)
    )


def _tokens(text: str) -> list[str]:
    found: list[str] = _tokenizer()(text.lower()).split()
    return found


@cache
def _tokenizer():  # type: ignore[no-untyped-def]  # noqa: ANN202
    from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a

    return Tokenizer13a()
