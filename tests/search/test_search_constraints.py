"""Constraints in the search: what Optuna is told, and who is stopped."""

from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from studies import stored

from hft_ray.config import ConfigError
from hft_ray.config.load import validate
from hft_ray.search import Study
from hft_ray.search.rungs import Halving, Rungs

TWO = {"task/a": "max", "task/b": "min"}
RULES = Halving(min_steps=10, eta=3, every=10, epsilon=0.05, seed=1)
ROWS = st.lists(
    st.tuples(st.floats(-10, 10), st.floats(-10, 10), st.sampled_from([0.0, 0.0, 0.2, 1.0, 50.0])),
    min_size=1,
    max_size=30,
)


def report(rungs, number, row):
    values = {"task/a": row[0], "task/b": row[1]}
    return rungs.report(f"t{number:04d}", 10, values, violation=row[2])


@settings(max_examples=60, deadline=None)
@given(ROWS)
def test_whoever_keeps_the_constraints_dominates_whoever_does_not(rows):
    rungs = Rungs(RULES, TWO)
    verdicts = [report(rungs, number, row) for number, row in enumerate(rows)]
    for one, other in itertools.pairwise(rows):
        if one[2] < other[2]:
            both = Rungs(RULES, TWO)
            assert [report(both, n, row).front for n, row in enumerate((one, other))] == [0, 1]
    # What is kept is enough to decide as if nothing had happened.
    restored = Rungs(RULES, TWO)
    restored.restore(json.loads(json.dumps(rungs.to_json())))
    for row in ((0.5, 0.5, 0.0), (99.0, -99.0, 0.1)):
        assert report(restored, 99 + int(row[0]), row) == report(rungs, 99 + int(row[0]), row)
    assert all(verdict.violation == row[2] for verdict, row in zip(verdicts, rows, strict=True))


def test_the_best_of_all_is_stopped_outside_the_constraints():
    rungs = Rungs(RULES, TWO)
    for number in range(12):
        assert not report(rungs, number, (number, -number, 0.0)).stop
    verdict = report(rungs, 12, (1000.0, -1000.0, 0.1))
    assert verdict.stop
    assert "outside the constraints, stops" in str(verdict)


def make_study(folder, **search):
    raw = {
        "name": "s",
        "model": "m",
        "data": {"train": "t.jsonl"},
        "training": {"steps": 90},
        "evaluation": {"every": 10},
        "search": {
            "space": {"selection.ratio": {"low": 0.1, "high": 1.0}},
            "trials": 60,
            "constraints": ["general/score >= 0.5 * base"],
            **search,
        },
    }
    study = Study(validate(raw, "FILE"), folder / "search.jsonl")
    study.set_base_scores({"general/score": 0.8}, {})
    return study


def values_at(ratio):
    return {"task/score": ratio, "forgetting/mean": ratio**2, "general/score": 1 - ratio}


SAMPLERS = ["tpe", "tpe_multivariate", "nsga2", pytest.param("gp", marks=pytest.mark.soak)]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_sampler_stays_where_the_constraint_holds(tmp_path, sampler):
    # A wish for large ratios, of which all above 0.6 are forbidden.
    trials = 25 if sampler == "gp" else 60
    study = make_study(tmp_path, sampler=sampler, trials=trials, objectives={"task/score": "max"})
    ratios = []
    while (known := study.next_trial()) is not None:
        ratios.append(known.params["selection.ratio"])
        study.tell(known.trial, {"state": "complete", "step": 1, "values": values_at(ratios[-1])})
    constrained = [trial.constraints for trial in stored(tmp_path).trials]
    assert [next(iter(each.values())) <= 0 for each in constrained] == [x <= 0.6 for x in ratios]
    late = ratios[-len(ratios) // 3 :]
    assert sum(x <= 0.62 for x in late) >= 0.6 * len(late)
    assert max(late) > 0.5


def test_where_the_memory_ran_out_less_is_looked_for(tmp_path):
    # A wish for large ratios; above 0.6 there is not the memory, so nothing is known but that.
    study = make_study(tmp_path, trials=40, constraints=[])
    ratios = []
    while (known := study.next_trial()) is not None:
        ratio = known.params["selection.ratio"]
        values = {"task/score": ratio, "forgetting/mean": -ratio}
        outcome = {"state": "complete", "step": 1, "values": values}
        if ratio > 0.6:
            outcome = {"state": "failed", "reason": "3 GiB", "fault": "out_of_memory"}
        ratios.append(ratio)
        assert study.tell(known.trial, outcome)["state"] == outcome["state"]
    infeasible = [
        any(x > 0 for x in trial.constraints.values()) for trial in stored(tmp_path).trials
    ]
    assert infeasible == [ratio > 0.6 for ratio in ratios]
    assert [known.state == "failed" for known in study.trials()] == infeasible
    # Told as any failed trial, which the sampler leaves out, 19 of these 20 and more are there.
    assert sum(ratio > 0.6 for ratio in ratios[20:]) <= 14


def test_a_report_is_judged_by_the_constraints_it_measures(tmp_path):
    bounds = ["general/score >= 0.5 * base", "task/score >= 0.3"]
    study = make_study(tmp_path, scheduler="asha", constraints=bounds)
    trials = [study.next_trial().trial for _ in range(3)]
    values = values_at(0.9)
    assert study.on_report(trials[0], 10, values).violation == pytest.approx(0.75)
    del values["general/score"]
    assert study.on_report(trials[1], 10, values).violation == 0
    # The untouched model fails it: training may still mend it.
    study.set_base_scores({"general/score": 0.8, "task/score": 0.1}, {})
    assert study.on_report(trials[2], 10, {**values_at(0.1), "task/score": 0.2}).violation == 0
    # At the end it must be measured.
    study.tell(trials[1], {"state": "complete", "step": 90, "values": values})
    assert stored(tmp_path).trials[1].constraints == {
        bounds[0]: 1.0,
        bounds[1]: pytest.approx(-2.0),
    }


def test_a_base_without_the_score_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="no score in general/score"):
        make_study(tmp_path).set_base_scores({"task/score": 0.1}, {})
