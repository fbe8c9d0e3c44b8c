"""Constraints and preferences: what is read, and what is refused with every problem."""

from __future__ import annotations

import math

import pytest

from hft_ray.config import ConfigError
from hft_ray.config.load import validate
from hft_ray.config.sections.constraints import Constraint, parse_constraint

SEARCH = {"space": {"selection.ratio": {"low": 0.1, "high": 0.9}}}


def problems_of(**search):
    raw = {"name": "s", "model": "m", "data": {"train": "t.jsonl"}, "search": SEARCH | search}
    with pytest.raises(ConfigError) as caught:
        validate(raw, "FILE")
    return [str(problem) for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("general/score >= 0.98 * base", Constraint("general/score", ">=", 0.98, True)),
        ("cost/peak_memory_bytes<=70e9", Constraint("cost/peak_memory_bytes", "<=", 70e9, False)),
        ("  forgetting/mean <= -.5  ", Constraint("forgetting/mean", "<=", -0.5, False)),
        ("task/a.b-c>=1.*base", Constraint("task/a.b-c", ">=", 1.0, True)),
    ],
)
def test_a_constraint_is_read_and_says_itself_again(text, read):
    assert parse_constraint(text) == read
    assert parse_constraint(str(read)) == read


@pytest.mark.parametrize(
    "text",
    [
        *("", "general/score", "score >= 1", "general/score > 0.5", "general/score = 0.5"),
        *("0.5 <= general/score", "general/score >= base", "general/score >= base * 0.9"),
        *("general/score >= 0.9 * Base", "general/score >= 1 >= 2", "general/score >= 0.9 + base"),
        *("general/score >= nan", "general/score >= inf", "general/score >= 0x1"),
        *("cost/peak_memory_bytes <= 1.1 * base", "forgetting/mean <= 0.5 * base"),
        "general/score >= 0.5 and general/score <= 0.9",
    ],
)
def test_what_is_no_constraint_is_refused(text):
    with pytest.raises(ValueError, match=r"is not a constraint|the base has no value"):
        parse_constraint(text)


def test_all_problems_are_told_together():
    told = problems_of(
        constraints=["general/score >= 0.9", "speed", "cost/x <= 2 * base"], trials=0
    )
    assert len(told) == 3
    assert told[0].startswith("search.constraints.1: 'speed' is not a constraint")
    assert told[1].startswith("search.constraints.2: 'cost/x <= 2 * base': the base has no value")
    assert told[2].startswith("search.trials")


def test_a_violation_is_a_share_of_the_bound():
    base = {"general/score": 0.8}
    at_least = parse_constraint("general/score >= 0.5 * base")
    assert at_least.limit(base) == pytest.approx(0.4)
    assert at_least.violation({"general/score": 0.3}, base) == pytest.approx(0.25)
    assert at_least.violation({"general/score": 0.6}, base) == pytest.approx(-0.5)
    at_most = parse_constraint("forgetting/mean <= 0")
    assert at_most.violation({"forgetting/mean": 0.2}, {}) == pytest.approx(0.2)
    assert at_most.violation({"forgetting/mean": 0.0}, {}) == 0
    assert at_most.violation({"forgetting/mean": math.nan}, {}) == at_most.violation({}, {}) == 1


@pytest.mark.parametrize(
    ("preference", "message"),
    [
        ({}, "give either weights or a target"),
        ({"weights": {"task/score": 1}, "target": {"task/score": 1}}, "give either"),
        ({"weights": {"task/score": 0}}, "all weights are 0"),
        ({"weights": {"task/score": -1}}, "greater than or equal to 0"),
        (
            {"weights": {"task/scor": 1}},
            "task/scor is not an objective; the objectives are task/score",
        ),
        ({"target": {"cost/x": 1}}, "cost/x is not an objective"),
    ],
)
def test_a_preference_that_says_nothing_is_refused(preference, message):
    assert any(message in problem for problem in problems_of(preference=preference))
