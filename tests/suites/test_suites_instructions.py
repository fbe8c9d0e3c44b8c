"""The shipped instructions: their answers pass the suite's own rule; 30 topics take turns."""

import json
from collections import Counter
from importlib.resources import files
from pathlib import Path

import pytest

from hft_ray.config import EvaluationSection
from hft_ray.evaluation.items import load_prompts
from hft_ray.evaluation.text_metrics import compare, extracted

FILE = Path(str(files("hft_ray.suites"))) / "instructions.jsonl"


@pytest.fixture(scope="module")
def instructions():
    return [json.loads(line) for line in FILE.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def evaluation():
    (made,) = EvaluationSection.model_validate({"general": ["instructions"]}).general
    return made


def answers(record):
    return [record["answer"]] if isinstance(record["answer"], str) else record["answer"]


@pytest.fixture(scope="module")
def loaded(evaluation):
    return load_prompts(evaluation, "evaluation.general.0")


def test_instructions_load_as_an_evaluation(instructions, evaluation, loaded):
    assert [each.prompt for each in loaded] == [record["prompt"] for record in instructions]
    for record, each in zip(instructions, loaded, strict=True):
        right = {extracted(evaluation.extract, answer) for answer in answers(record)}
        assert set(each.answers) == right


def test_every_instruction_has_the_same_form(instructions):
    for record in instructions:
        assert list(record) == ["prompt", "answer", "topic"]
        assert record["prompt"].startswith("Instruction: ")
        assert record["prompt"].endswith("\nAnswer:")
        for text in (record["prompt"], *answers(record)):
            assert text.isascii()
            assert text == text.strip()
            assert "  " not in text
        # One short line: it ends at the line break that stops the generation.
        assert all(0 < len(answer) <= 48 and "\n" not in answer for answer in answers(record))


def test_no_instruction_is_asked_twice(instructions):
    assert len({record["prompt"].lower() for record in instructions}) == len(instructions) == 300
    for record in instructions:
        assert len(set(answers(record))) == len(answers(record)), record


def test_families_take_turns(instructions):
    families = Counter(record["topic"] for record in instructions)
    assert len(families) == 30
    assert set(families.values()) == {10}
    for start in range(0, 300, 30):
        assert len({record["topic"] for record in instructions[start : start + 30]}) == 30


@pytest.mark.parametrize("form", ["{}", " {}.", '"{}"', "**{}**", "\n'{}'.", "`{}`"])
def test_what_is_around_an_answer_does_not_count(form, instructions, loaded, evaluation):
    for record, each in zip(instructions, loaded, strict=True):
        for answer in answers(record):
            text = extracted(evaluation.extract, form.format(answer))
            assert compare(evaluation.metric, text, each.answers) == 1, record


@pytest.mark.parametrize("form", ["The answer is {}", "{}, of course", "{0} {0}", ""])
def test_anything_else_counts(form, loaded, evaluation):
    for each in loaded:
        text = extracted(evaluation.extract, form.format(each.answers[0]))
        assert compare(evaluation.metric, text, each.answers) == 0, each
