"""The shipped evaluations: readable, balanced, without doubles, and part of the wheel."""

import hashlib
import json
import re
import tomllib
from collections import Counter
from importlib.resources import files
from itertools import pairwise
from pathlib import Path

import pytest

from hft_ray.config import EvaluationSection, MultipleChoice, Perplexity
from hft_ray.evaluation.items import load_items, load_passages, load_questions

FOLDER = Path(str(files("hft_ray.suites")))


def records(name):
    return [json.loads(line) for line in (FOLDER / name).read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def questions():
    return records("common_knowledge.jsonl")


@pytest.fixture(scope="module")
def paragraphs():
    return [record["text"] for record in records("english.jsonl")]


def test_questions_load_as_an_evaluation(questions):
    evaluation = MultipleChoice(
        kind="multiple_choice",
        name="knowledge",
        data="package:hft_ray.suites/common_knowledge.jsonl",
    )
    loaded = load_questions(evaluation, "evaluation.general.0")
    assert [(each.question, list(each.choices), each.answer) for each in loaded] == [
        (record["question"], record["choices"], record["answer"]) for record in questions
    ]
    assert len(loaded) >= 1000


def test_paragraphs_load_as_an_evaluation(paragraphs):
    evaluation = Perplexity(
        kind="perplexity", name="english", data="package:hft_ray.suites/english.jsonl"
    )
    loaded = load_passages(evaluation, "evaluation.general.0")
    assert [(each.prompt, each.text) for each in loaded] == [("", text) for text in paragraphs]
    assert sum(len(text.split()) for text in paragraphs) >= 17_000


# Results with earlier versions are those of the first records: these do not change.
EARLIER = [
    (
        "common_knowledge.jsonl",
        413,
        "52c0f0da187a31d0a9ff0358ff3b03b4e7e347b1103ecc93b2a05d6a28c28112",
    ),
    ("english.jsonl", 67, "f83339c0df94f909634730d114f3dcea6b0f34190df7d383967b8a9f78c8cd91"),
]


@pytest.mark.parametrize(("name", "count", "expected"), EARLIER)
def test_the_records_of_earlier_results_are_the_first(name, count, expected):
    lines = (FOLDER / name).read_bytes().splitlines(keepends=True)
    assert hashlib.sha256(b"".join(lines[:count])).hexdigest() == expected


SIZES = [
    ("common-knowledge", [413, 67]),
    ("smollm2-general", [100, 67]),
    ("broad-knowledge", [1037, 168]),
    ("instructions", [300]),
    ("demo-facts", [300]),
]


@pytest.mark.parametrize(("suite", "sizes"), SIZES)
def test_suites_that_need_no_network_load(suite, sizes):
    section = EvaluationSection.model_validate({"general": [suite]})
    assert [len(load_items(each, path)) for path, each in section.places()] == sizes


def test_every_question_has_the_same_form(questions):
    for record in questions:
        assert list(record) == ["question", "choices", "answer", "topic"]
        start, middle, rest = record["question"].partition("Question: ")
        assert (start, middle) == ("", "Question: ")
        assert rest.endswith("?\nAnswer:")
        assert len(rest) < 100
        assert len(record["choices"]) == 4
        assert record["answer"] in range(4)


def test_texts_are_clean(questions, paragraphs):
    asked = [text for record in questions for text in (record["question"], *record["choices"])]
    for text in [*asked, *paragraphs, *(record["topic"] for record in questions)]:
        assert text.isascii()
        assert text == text.strip()
        assert "  " not in text
    assert not any("\n" in text for text in paragraphs)


def test_there_are_no_doubles(questions, paragraphs):
    asked = {re.sub(r"[^a-z0-9 ]", "", record["question"].lower()) for record in questions}
    assert len(asked) == len(questions)
    for record in questions:
        assert len({choice.lower() for choice in record["choices"]}) == 4, record
    assert len(set(paragraphs)) == len(paragraphs)


@pytest.mark.parametrize(
    ("limit", "fields"), [(48, 12), (100, 18), (200, 18), (413, 18), (None, 26)]
)
def test_answer_positions_and_topics_are_balanced_in_every_prefix(limit, fields, questions):
    taken = questions[:limit]
    positions = Counter(record["answer"] for record in taken)
    assert max(positions.values()) - min(positions[index] for index in range(4)) <= 1
    topics = Counter(record["topic"] for record in taken)
    assert len(topics) >= fields
    assert max(topics.values()) <= 2 * min(topics.values())


def test_four_consecutive_questions_have_the_four_positions(questions):
    for start in range(0, len(questions) - 3, 4):
        answers = {record["answer"] for record in questions[start : start + 4]}
        assert answers == {0, 1, 2, 3}, start


def test_topics_take_turns(questions):
    assert all(record["topic"] != following["topic"] for record, following in pairwise(questions))


def test_length_does_not_give_the_answer_away(questions):
    longest = shortest = 0
    for record in questions:
        right = len(record["choices"][record["answer"]])
        wrong = [
            len(choice)
            for index, choice in enumerate(record["choices"])
            if index != record["answer"]
        ]
        longest += right > max(wrong)
        shortest += right < min(wrong)
    assert longest <= 0.2 * len(questions)
    assert shortest <= 0.2 * len(questions)


def test_paragraphs_are_of_similar_length(paragraphs):
    assert all(60 <= len(text.split()) <= 150 for text in paragraphs)


def test_the_readme_states_the_counts(questions, paragraphs):
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert f"| `common_knowledge.jsonl` | {len(questions)} |" in readme
    assert f"| `english.jsonl` | {len(paragraphs)} |" in readme
    assert f"{sum(len(text.split()) for text in paragraphs):,} words" in readme
    assert f"| `instructions.jsonl` | {len(records('instructions.jsonl'))} |" in readme


def test_the_files_are_package_data():
    project = tomllib.loads((FOLDER.parents[1] / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = project["tool"]["setuptools"]["package-data"]["hft_ray"]
    assert {"suites/*.jsonl", "suites/*.yaml", "suites/README.md"} <= set(patterns)
