"""Metrics of generated text against their libraries and worked examples."""

import random
from decimal import Decimal

import pytest
from evaluation_models import WORDS, sentence
from hypothesis import given
from hypothesis import strategies as st
from rapidfuzz.distance import Indel
from rouge_score import rouge_scorer

from hft_ray.evaluation.sari import sari
from hft_ray.evaluation.text_metrics import (
    compare,
    edit_similarity,
    extracted,
    last_number,
    number_match,
    rouge_l,
    token_f1,
)

METRICS = ("exact_match", "token_f1", "number_match", "rouge_l", "edit_similarity", "sari")


def test_token_f1_by_hand():
    # squad: articles and punctuation do not count; 2 common words of 3 and 2
    assert token_f1("The Eiffel tower, Paris!", "Eiffel Tower") == pytest.approx(0.8)
    assert token_f1("a", "the") == 1.0, "nothing is left on both sides"
    assert token_f1("the", "tower") == 0.0
    assert token_f1("x x y", "x z") == pytest.approx(2 * 1 / 5), "a word counts as often as in both"


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("so it is $1,200.50.", "1200.50"),
        ("#### 42", "42"),
        ("3 + 4 = 7.", "7"),
        ("10-20", "20"),
        ("at -3 degrees", "-3"),
        (".5", "0.5"),
        ("12,345,678", "12345678"),
        ("1,2", "2"),
        ("none", None),
        ("9{,}500", "9500"),
        ("$-1{,}200{,}000.5$", "-1200000.5"),
        (r"9\,500", "9500"),
        ("12\u202f345", "12345"),
        ("in 2020\u00a0500", "500"),
        ("1,2345", "2345"),
        ("1.5e3", "1500"),
        ("1.5E-3", "0.0015"),
        ("2e5.", "200000"),
        ("3e", "3"),
        ("1.5\u00d710^3", "1500"),
        (r"1.5 \times 10^{-3}", "0.0015"),
        ("2*10**3", "2000"),
        ("5 x 10", "10"),
        ("\u22125", "-5"),
        ("\u20135", "-5"),
        ("10\u221220", "20"),
        ("1.5e\u22123", "0.0015"),
        ("-" + "9" * 40, "-" + "9" * 40),
    ],
)
def test_the_last_number(text, number):
    assert last_number(text) == (None if number is None else Decimal(number))


def test_numbers_match_by_value():
    assert number_match("about 1,200.0 in all", "#### 1200") == 1.0
    assert number_match("1200 or 7", "1200") == 0.0
    assert number_match("who knows", "7") == 0.0


COMPOSED, APART = "Malm\u00f6 pr\u00e8s", "Malmo\u0308 pre\u0300s"


@pytest.mark.parametrize("metric", [name for name in METRICS if name != "number_match"])
@pytest.mark.parametrize(("text", "answer"), [(COMPOSED, APART), (APART, COMPOSED)])
def test_texts_are_compared_in_one_normal_form(metric, text, answer):
    same = compare(metric, text, (text,), text)
    assert compare(metric, text, (answer,), answer) == same == 1.0
    # Canonically equal, that is; what only looks alike stays different.
    assert compare("exact_match", "2", ("\u00b2",)) == 0.0


def test_the_answer_is_extracted_in_either_form():
    assert extracted(r"M\w+o" + "\u0308", COMPOSED) == "Malm\u00f6"
    assert extracted("[\u00f6]", APART) == "\u00f6"


def test_rouge_l_is_the_librarys():
    # worked: longest common subsequence "police the gunman" has 3 of 4 words on both sides
    assert rouge_l("police kill the gunman", "police killed the gunman") == pytest.approx(0.75)
    rng = random.Random(1)
    library = rouge_scorer.RougeScorer(["rougeL"])
    for _ in range(50):
        text, answer = sentence(rng, 0, 9), sentence(rng, 1, 9)
        assert rouge_l(text, answer) == library.score(answer, text)["rougeL"].fmeasure


def test_edit_similarity_is_the_librarys():
    # worked: kitten -> sitting keeps i t t n of 6 + 7 letters
    assert edit_similarity("kitten", "sitting") == pytest.approx(2 * 4 / 13)
    rng = random.Random(1)
    for _ in range(50):
        text, answer = sentence(rng, 0, 9), sentence(rng, 1, 9)
        assert edit_similarity(text, answer) == pytest.approx(
            Indel.normalized_similarity(text, answer)
        )


SOURCE = "About 95 species are currently accepted ."
REFERENCES = [
    "About 95 species are currently known .",
    "About 95 species are now accepted .",
    "95 species are now accepted .",
]
# The first is the documented example of evaluate's metric "sari", the others its results.
SARI = [
    (SOURCE, "About 95 you now get in .", REFERENCES, 26.953601953601954),
    (
        "sat (small) on",
        "e.g. it's 1,000 A on it's the 1,000",
        [
            "the e.g. (small) dog on far the the the the",
            "A times the well-known dog e.g. it's",
            "dog away dog dog e.g. ran the times on",
            "ran on far",
        ],
        53.072687009,
    ),
    (
        "times well-known A ran ran it's well-known 1,000 cat,",
        "well-known 1,000 away",
        ["well-known 1,000 away"],
        98.80952381,
    ),
    (
        "ran e.g. far it's it's on the ran 1,000 far times",
        "times the dog the 1,000 The cat, mat. e.g. well-known",
        [
            "times the dog the 1,000 The cat, mat. e.g. well-known",
            "times dog well-known e.g. dog well-known the 1,000 far times cat,",
        ],
        88.657749498,
    ),
    (
        "cat, times sat 1,000 The The",
        "cat, times sat 1,000 The The",
        ["on e.g. (small) on cat,", "the the sat times on", "A"],
        38.623188406,
    ),
]


@pytest.mark.parametrize(("source", "text", "references", "expected"), SARI)
def test_sari_agrees_with_the_reference(source, text, references, expected):
    assert 100 * sari(source, text, references) == pytest.approx(expected, abs=1e-8)


def test_sari_of_a_perfect_simplification_is_one():
    assert sari(SOURCE, REFERENCES[0], [REFERENCES[0]]) == pytest.approx(1.0)


texts = st.lists(st.sampled_from([*WORDS[:6], "7", "1,200"]), max_size=6).map(" ".join)


@given(text=texts, answers=st.lists(texts.filter(str.strip), min_size=1, max_size=3), source=texts)
def test_metrics_are_shares_and_the_best_answer_counts(text, answers, source):
    for metric in METRICS:
        value = compare(metric, text, answers, source)
        assert 0 <= value <= 1 + 1e-12
        if metric != "sari":
            alone = [compare(metric, text, (answer,)) for answer in answers]
            assert value == max(alone)
    assert compare("exact_match", f" {answers[-1]}\n", answers) == 1.0


def test_the_answer_is_extracted():
    assert extracted(None, "all of it") == "all of it"
    assert extracted(r"#### (\S+)", "so\n#### 42 #### 7") == "42", "the first match, its group"
    assert extracted(r"\d+", "so 42 and 7") == "42", "the whole match without a group"
    assert extracted(r"#### (\S+)", "42") == ""
    assert extracted(r"a(b)?", "ac") == ""
