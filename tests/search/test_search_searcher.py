"""What Ray Tune tells the searcher reaches the study whole."""

from __future__ import annotations

import json

import pytest
from ray.tune.search import Searcher
from ray.tune.utils import flatten_dict

from hft_ray.config.load import validate
from hft_ray.search import Study
from hft_ray.search.searcher import StudySearcher

VALUES = {"task/score": 0.5, "forgetting/mean": 0.1}


@pytest.fixture
def study(tmp_path):
    raw = {
        "name": "s",
        "model": "m",
        "data": {"train": "d.jsonl"},
        "evaluation": {
            "task": [{"name": "t", "kind": "generation", "data": "t.jsonl"}],
            "general": [{"name": "g", "kind": "generation", "data": "g.jsonl"}],
        },
        "search": {"space": {"selection.ratio": {"low": 0.1, "high": 0.9}}, "trials": 2},
    }
    return Study(validate(raw, "FILE"), tmp_path / "search.jsonl")


def test_a_trial_is_suggested_with_its_settings_as_text(study):
    searcher = StudySearcher(study)
    first = searcher.suggest("tune-0")
    assert first == {"sweep": "s", "trial": "t0000", "params": '{"selection.ratio": 1.0}'}
    assert searcher.suggest("tune-1")["trial"] == "t0001"
    assert searcher.suggest("tune-2") == Searcher.FINISHED


@pytest.mark.parametrize("state", ["complete", "stopped", "failed"])
def test_the_end_that_a_trial_reports_is_told_as_it_is(study, state):
    ends = {}
    searcher = StudySearcher(study, ends.__setitem__)
    searcher.suggest("tune-0")
    outcome = {"state": state, "step": 3, "values": VALUES}
    # Tune hands searchers a flattened result.
    result = flatten_dict({**VALUES, "outcome": json.dumps(outcome), "done": True})
    searcher.on_trial_complete("tune-0", result)
    (known,) = study.trials()
    assert known.result == outcome
    assert ends == {"t0000": outcome}


def test_the_driver_is_told_what_the_study_made_of_an_end(study):
    ends = {}
    searcher = StudySearcher(study, ends.__setitem__)
    searcher.suggest("tune-0")
    outcome = {"state": "complete", "step": 3, "values": {"task/score": 0.5}, "steps": 3}
    searcher.on_trial_complete("tune-0", {"outcome": json.dumps(outcome)})
    assert ends["t0000"]["state"] == "failed"
    assert "forgetting/mean" in ends["t0000"]["reason"]
    assert ends["t0000"]["steps"] == 3, "what the study does not keep is handed on"


def test_a_closed_searcher_tells_nobody(study):
    ends = {}
    searcher = StudySearcher(study, ends.__setitem__)
    searcher.suggest("tune-0")
    searcher.close()
    searcher.on_trial_complete("tune-0", None, error=True)
    assert ends == {}


@pytest.mark.parametrize("result", [None, {**VALUES, "outcome": None}])
def test_a_trial_that_ends_without_a_result_is_failed(study, result):
    searcher = StudySearcher(study)
    searcher.suggest("tune-0")
    searcher.on_trial_complete("tune-0", result, error=True)
    (known,) = study.trials()
    assert known.state == "failed"
    assert known.result["reason"] == "the trial ended without a result"
