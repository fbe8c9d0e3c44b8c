"""Trials that have made their last step: nobody stops them, and nothing undoes them."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hft_ray.config.load import validate
from hft_ray.search import Study
from hft_ray.search.simulate import simulate
from hft_ray.search.table import CurvePoint


def make_study(folder, training=None, **search):
    raw = {
        "name": "s",
        "model": "m",
        "data": {"train": "d.jsonl"},
        "training": training or {"epochs": 3},
        "evaluation": {"every": 10},
        "search": {
            "space": {"selection.ratio": {"low": 0.1, "high": 0.9}},
            "scheduler": "asha",
            "trials": 40,
            **search,
        },
    }
    return Study(validate(raw, "FILE"), folder / "search.jsonl")


def scores(x):
    return {"task/score": x, "forgetting/mean": 1 - x}


def bad_trial(study):
    """A trial that the first rung stops."""
    for i in range(9):
        study.on_report(study.next_trial().trial, 10, scores(0.5 + i / 100))
    trial = study.next_trial().trial
    assert study.on_report(trial, 10, scores(0.1)).stop
    return trial


@pytest.mark.parametrize("training", [{"epochs": 3}, {"steps": 30}])
@pytest.mark.parametrize("step", [10, 12, 30])
def test_a_last_report_stops_nobody(tmp_path, training, step):
    study = make_study(tmp_path, training)
    trial = bad_trial(study)
    other = study.next_trial().trial
    assert not study.on_report(other, step, scores(0.0), last=True).stop
    # It made its last step before it heard of the decision.
    assert study.on_report(trial, 12, scores(0.0), last=True) is None


class Lengths:
    """Each trial has as many steps as its epochs take, and scores worse than the one before."""

    def __init__(self, ends):
        self.ends = ends

    def curve(self, trial, params):
        number = int(trial[1:])
        end = self.ends[number % len(self.ends)]
        steps = sorted({*range(10, end, 10), end})
        return [CurvePoint(step, scores(0.9 - number / 100), float(step)) for step in steps]


@settings(max_examples=8, deadline=None)
@given(ends=st.lists(st.integers(1, 60), min_size=1, max_size=5))
def test_whoever_makes_the_last_step_is_complete(tmp_path_factory, ends):
    study = make_study(tmp_path_factory.mktemp("study"), trials=20, sampler="random")
    curves, slots = Lengths(ends), 3
    ended = [event for event in simulate(study, curves, slots) if event.kind == "finished"]
    assert len(ended) == 20
    for event in ended:
        last = max(score.step for score in curves.curve(event.trial, {}))
        assert (event.step == last) == (event.details["state"] == "complete")


@pytest.mark.parametrize(
    "end",
    [
        {"state": "failed", "reason": "a worker process died (3 times)", "fault": "worker_crash"},
        {"state": "failed", "reason": "CUDA out of memory", "fault": "out_of_memory"},
        {"state": "stopped", "reason": "a node was lost"},
        {"state": "stopped"},
    ],
)
@pytest.mark.parametrize("scheduler", ["asha", "none"])
@pytest.mark.parametrize("restarted", [False, True])
def test_a_trained_trial_is_complete_whatever_happens_to_its_variants(
    tmp_path, end, scheduler, restarted
):
    study = make_study(tmp_path, scheduler=scheduler)
    trial = bad_trial(study) if scheduler == "asha" else study.next_trial().trial
    told = {"last": True, "step": 12, "values": scores(0.2)}
    if restarted:
        study.trained(trial, 12, {**scores(0.2), "train/loss": math.nan})
        # The driver dies; the trial is handed out once more, and comes by the rung again.
        study = make_study(tmp_path, scheduler=scheduler)
        assert trial in {study.next_trial().trial for _ in range(10 if scheduler == "asha" else 1)}
        assert study.on_report(trial, 10, scores(0.1)) is None
        told = {"last": False, "step": 10, "values": scores(0.1)}
    ended = study.tell(trial, {**told, **end})
    assert (ended["state"], ended["step"]) == ("complete", 12)
    assert ended["values"] == scores(0.2)
    assert ended["reason"].startswith("not all variants were scored: ")
    assert not ended["fault"]
    known = next(known for known in study.trials() if known.trial == trial)
    assert (known.state, known.feasible) == ("complete", True)


def test_a_trained_trial_without_a_number_is_failed(tmp_path):
    study = make_study(tmp_path)
    trial = study.next_trial().trial
    end = {"state": "stopped", "last": True, "step": 12, "values": {"task/score": math.nan}}
    ended = study.tell(trial, end)
    assert ended["state"] == "failed"
    assert ended["reason"] == "no finite value for task/score, forgetting/mean"
