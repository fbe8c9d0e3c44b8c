"""The shipped evaluations: readable, balanced, without doubles, and part of the wheel."""

import json
import tomllib
from collections import Counter
from importlib.resources import files
from pathlib import Path

import pytest

from hft_ray.config import MultipleChoice, Perplexity
from hft_ray.evaluation.items import load_questions, load_texts

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
    assert len(loaded) >= 320


def test_paragraphs_load_as_an_evaluation(paragraphs):
    evaluation = Perplexity(
        kind="perplexity", name="english", data="package:hft_ray.suites/english.jsonl"
    )
    assert list(load_texts(evaluation, "evaluation.general.0")) == paragraphs
    assert len(paragraphs) >= 60


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
    assert len({record["question"].lower() for record in questions}) == len(questions)
    for record in questions:
        assert len({choice.lower() for choice in record["choices"]}) == 4, record
    assert len(set(paragraphs)) == len(paragraphs)


@pytest.mark.parametrize("limit", [None, 48, 100, 200])
def test_answer_positions_and_topics_are_balanced_in_every_prefix(questions, limit):
    taken = questions[:limit]
    positions = Counter(record["answer"] for record in taken)
    assert max(positions.values()) - min(positions[index] for index in range(4)) <= 1
    topics = Counter(record["topic"] for record in taken)
    assert len(topics) == len({record["topic"] for record in questions}) >= 12
    assert max(topics.values()) <= 2 * min(topics.values())


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
    assert longest <= 0.35 * len(questions)
    assert shortest <= 0.35 * len(questions)


def test_paragraphs_are_of_similar_length(paragraphs):
    assert all(60 <= len(text.split()) <= 150 for text in paragraphs)


def test_the_readme_states_the_counts(questions, paragraphs):
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert f"| `common_knowledge.jsonl` | {len(questions)} |" in readme
    assert f"| `english.jsonl` | {len(paragraphs)} |" in readme
    assert f"{sum(len(text.split()) for text in paragraphs):,} words" in readme


def test_the_files_are_package_data():
    project = tomllib.loads((FOLDER.parents[1] / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = project["tool"]["setuptools"]["package-data"]["hft_ray"]
    assert {"suites/*.jsonl", "suites/*.yaml", "suites/README.md"} <= set(patterns)
