"""Chooses how the task is scored, by what the answers look like."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

from hft_ray.scaffold.columns import Kind

_SHORT, _LONG = 32, 256
"""Tokens: an answer up to the first is compared to the letter, one above the second is not
generated at all."""
_NUMBER_LAST = re.compile(r"[\d.,]*\d[\d.,]*\D{0,3}$")


@dataclass(frozen=True)
class TaskScore:
    """An evaluation of FILE, and why it was chosen.

    Attributes:
        settings: Its settings but for name and data.
        why: The reason, in words.
        new_tokens: Tokens that it generates for an item; 0 if it generates none.
    """

    settings: dict[str, Any] = field(default_factory=dict)
    why: str = ""
    new_tokens: int = 0


def choose_evaluation(kind: Kind, answers: Sequence[str], count: Callable[[str], int]) -> TaskScore:
    """Return the evaluation that fits the answers.

    Args:
        kind: What a record is.
        answers: The answers of all records.
        count: The number of tokens of a text.
    """
    if kind == "pairs":
        why = "share of held-out pairs whose chosen answer is preferred"
        return TaskScore({"kind": "preference"}, why)
    if kind == "choices":
        why = "accuracy of the likeliest choice"
        return TaskScore({"kind": "multiple_choice"}, why)
    if kind == "texts":
        why = "cross-entropy: texts have no answer to compare with"
        return TaskScore({"kind": "perplexity"}, why)
    lengths = sorted(map(count, answers))
    usual, longest = lengths[int(0.9 * (len(lengths) - 1))], lengths[-1]
    lines = sum("\n" in answer.strip() for answer in answers) / len(answers)
    if usual <= _SHORT and lines <= 0.05:
        why = "answers are short: they are right to the letter or not at all"
        return _generated({"metric": "exact_match"}, why, min(longest, 2 * _SHORT), one_line=True)
    numbers = sum(bool(_NUMBER_LAST.search(answer.strip())) for answer in answers) / len(answers)
    if numbers >= 0.9 and usual <= 2 * _LONG:
        why = "answers end with a number: the last one is compared"
        return _generated({"metric": "number_match"}, why, min(longest, 2 * _LONG))
    if usual <= _LONG:
        metric = "rouge_l" if find_spec("rouge_score") else "token_f1"
        why = "answers are of some length: what they have in common with the right one counts"
        return _generated({"metric": metric}, why, min(longest, _LONG))
    why = f"cross-entropy: half and more of the answers would take over {_LONG} tokens to generate"
    return TaskScore({"kind": "perplexity"}, why)


def _generated(
    settings: dict[str, Any], why: str, longest: int, *, one_line: bool = False
) -> TaskScore:
    tokens = 8 * math.ceil((longest + 2) / 8)
    more: dict[str, Any] = {"max_new_tokens": tokens}
    if not one_line:
        more["stop"] = []
    return TaskScore({"kind": "generation", **settings, **more}, why, tokens)
