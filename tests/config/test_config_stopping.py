"""``search.scheduler``: its short form, and what it needs from the rest of FILE."""

from __future__ import annotations

import pytest

from hft_ray.config import ConfigError
from hft_ray.config.load import parse, validate

FILE = """
name: s
model: m
data: {train: t.jsonl}
training: {steps: 90}
evaluation: {every: 10}
search: {space: {selection.ratio: [0.5, 0.9]}, scheduler: asha}
"""


def test_the_short_form_names_the_kind():
    assert parse(FILE, "FILE").search.scheduler.kind == "asha"
    config = parse(FILE, "FILE", ["search.scheduler.eta=4"])
    assert (config.search.scheduler.kind, config.search.scheduler.eta) == ("asha", 4)
    assert parse(FILE, "FILE", ["search.scheduler=none"]).search.scheduler.kind == "none"


def test_nothing_is_stopped_unless_asked():
    assert parse(FILE.replace(", scheduler: asha", ""), "FILE").search.scheduler.kind == "none"


@pytest.mark.parametrize(
    ("override", "path", "message"),
    [
        ("evaluation.every=null", "search.scheduler", "set evaluation.every, for example 10"),
        ("evaluation.every=90", "search.scheduler.min_steps", "no trial has more than 90"),
        ("search.scheduler.min_steps=85", "search.scheduler.min_steps", "would be after 90 steps"),
        ("search.scheduler.eta=1", "search.scheduler.eta", "greater than or equal to 2"),
        ("search.scheduler=median", "search.scheduler.kind", "'none' or 'asha'"),
        (
            "search.objectives={cost/peak_memory_bytes: min}",
            "search.scheduler",
            "no objective is of that kind",
        ),
    ],
)
def test_what_cannot_work_is_refused(override, path, message):
    with pytest.raises(ConfigError, match=message) as caught:
        parse(FILE, "FILE", [override])
    assert [problem.path for problem in caught.value.problems] == [path]


def test_searched_steps_count_by_the_longest():
    raw = {
        "name": "s",
        "model": "m",
        "data": {"train": "t.jsonl"},
        "evaluation": {"every": 10},
        "search": {"space": {"training.steps": {"low": 5, "high": 50}}, "scheduler": "asha"},
    }
    assert validate(raw, "FILE").search.scheduler.min_steps is None
    raw["evaluation"] = {"every": 50}
    with pytest.raises(ConfigError, match="no trial has more than 50"):
        validate(raw, "FILE")
