"""The metrics of ``generation``: similarity of a text and its right answers, in [0, 1].

Of several right answers the best match counts. All metrics but ``exact_match`` are those of the
TRACE benchmark (arXiv 2310.06762) or of SQuAD.

Texts are first brought to Unicode's normal form NFC, in which canonically equal texts
are equal: tokenizers write one form, files have the other. NFKC would also make ² equal 2.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from decimal import Decimal
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING

from hft_ray.config import ConfigError, Problem
from hft_ray.evaluation.sari import sari

if TYPE_CHECKING:
    from rouge_score.rouge_scorer import RougeScorer

_MINUS = "-\u2212\u2013\ufe63\uff0d"  # hyphen, minus sign, en dash, small and full-width hyphen
_GROUP = r"(?:,|\{,\}|\\[,!]|[\u00a0\u2009\u202f])"
_POWER = rf"[{_MINUS}+]?\d{{1,3}}"
# A sign between digits or letters is none: 10-20 ends in 20.
_NUMBER = re.compile(
    rf"(?P<sign>(?<![\w.])[{_MINUS}+])?"
    rf"(?P<digits>(?:\d{{1,3}}(?:{_GROUP}\d{{3}})+(?!\d)|\d+)(?:\.\d+)?|\.\d+)"
    rf"(?:[eE](?P<e>{_POWER})(?!\w)|\s?(?:[×x*·]|\\times|\\cdot)\s?10(?:\^|\*\*)"
    rf"(?:(?P<ten>{_POWER})|\{{(?P<tex>{_POWER})\}}))?"
)


def normal(text: str) -> str:
    """Return ``text`` in the normal form NFC."""
    return unicodedata.normalize("NFC", text)


def spellings(text: str) -> list[str]:
    """Return the distinct ones of ``text`` and its normal forms NFC and NFD."""
    forms = (text, normal(text), unicodedata.normalize("NFD", text))
    return list(dict.fromkeys(forms))


def exact_match(text: str, answer: str) -> float:
    """Return whether both are equal, ignoring white space around them."""
    return float(text.strip() == answer.strip())


def token_f1(text: str, answer: str) -> float:
    """Return the F1 of the words as in SQuAD: lower case, no punctuation, no articles."""
    found, wanted = _words(text), _words(answer)
    if not found or not wanted:
        return float(found == wanted)
    common = (Counter(found) & Counter(wanted)).total()
    return 2 * common / (len(found) + len(wanted))


def number_match(text: str, answer: str) -> float:
    """Return whether the last number of the text is the answer's (``1,200`` is ``1200.0``)."""
    wanted = last_number(answer)
    return float(wanted is not None and last_number(text) == wanted)


def last_number(text: str) -> Decimal | None:
    """Return the last number in a text.

    Digits may be grouped by three with commas (``{,}`` in LaTeX), ``\\,`` or spaces that do not
    break; a decimal point, a sign (of the ways to write minus any), and a power of ten (``1.5e3``,
    ``1.5 \\times 10^{3}``) are understood.
    """
    found = list(_NUMBER.finditer(text))
    if not found:
        return None
    last = found[-1]
    digits = re.sub(_GROUP, "", last["digits"])
    power = last["e"] or last["ten"] or last["tex"] or "0"
    return Decimal(re.sub(f"[{_MINUS}]", "-", f"{last['sign'] or ''}{digits}e{power}"))


def rouge_l(text: str, answer: str) -> float:
    """Return the F-measure of ROUGE-L by the library ``rouge-score``, without stemming.

    It looks at the letters a to z and digits only, so it is of little use for other scripts.
    """
    return float(_rouge().score(answer, text)["rougeL"].fmeasure)


def edit_similarity(text: str, answer: str) -> float:
    """Return 1 - insertions and deletions over the sum of both lengths, by ``rapidfuzz``."""
    from rapidfuzz import fuzz

    return fuzz.ratio(text.strip(), answer.strip()) / 100


_COMPARISONS: dict[str, Callable[[str, str], float]] = {
    "exact_match": exact_match,
    "token_f1": token_f1,
    "number_match": number_match,
    "rouge_l": rouge_l,
    "edit_similarity": edit_similarity,
}


LIBRARIES = {"rouge_l": "rouge_score", "edit_similarity": "rapidfuzz", "sari": "sacrebleu"}
"""Metric -> the module of the library that computes it, one of the extra ``trace``."""


def check_library(metric: str, path: str) -> None:
    """Refuse a metric whose library is not installed; ``path`` is its place in FILE.

    Raises:
        ConfigError: The library is missing.
    """
    module = LIBRARIES.get(metric)
    if module is not None and find_spec(module) is None:
        message = "needs a library of the extra trace: pip install 'hft-ray[trace]'"
        raise ConfigError(Problem(path, message, metric))


def compare(metric: str, text: str, answers: Sequence[str], source: str | None = None) -> float:
    """Return the best similarity of ``text`` and an answer by a metric.

    Args:
        metric: Its name in FILE.
        text: What was generated.
        answers: The right answers, one or more.
        source: The text that a simplification starts from, for ``sari``.
    """
    text, answers = normal(text), [normal(answer) for answer in answers]
    if metric == "sari":
        assert source is not None
        return sari(normal(source), text, answers)
    return max(_COMPARISONS[metric](text, answer) for answer in answers)


def extracted(pattern: str | None, text: str) -> str:
    """Return the first group, else the whole, of the pattern's first match; "" if there is none."""
    if pattern is None:
        return text
    match = re.search(normal(pattern), normal(text))
    if match is None:
        return ""
    # A group that took no part in the match is None.
    return (match.group(1) or "") if match.re.groups else match.group()


def _words(text: str) -> list[str]:
    plain = "".join(letter for letter in text.lower() if letter not in string.punctuation)
    return [word for word in plain.split() if word not in ("a", "an", "the")]


@cache
def _rouge() -> RougeScorer:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(["rougeL"], use_stemmer=False)
