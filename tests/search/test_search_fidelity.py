"""Stopped trials: what the study keeps of them, and what the sampler sees of them."""

from __future__ import annotations

import json
import math

import pytest
from optuna.trial import TrialState
from studies import record_views, stored

from hft_ray.config.load import validate
from hft_ray.search import Study
from hft_ray.search.fidelity import Extrapolation
from hft_ray.search.scheduler import StudyScheduler
from hft_ray.search.searcher import StudySearcher


def make_study(folder, **search):
    space = {"selection.ratio": {"low": 0.1, "high": 0.9}}
    raw = {
        "name": "s",
        "model": "m",
        "data": {"train": "d.jsonl"},
        "training": {"steps": 90},
        "evaluation": {"every": 10},
        "search": {"space": space, "scheduler": "asha", "trials": 40, **search},
    }
    return Study(validate(raw, "FILE"), folder / "search.jsonl")


def scores(x, lost=None):
    return {"task/score": x, "forgetting/mean": 1 - x if lost is None else lost}


def fill(study, count=9):
    """Bring trials to the first rung, each better than all before in everything."""
    for i in range(count):
        trial = study.next_trial().trial
        assert not study.on_report(trial, 10, scores(0.5 + i / 100)).stop


def stop_one(study, x=0.1):
    known = study.next_trial()
    verdict = study.on_report(known.trial, 10, scores(x))
    assert verdict.stop
    return known, study.tell(known.trial, {"state": "stopped", "step": 10, "values": scores(x)})


def test_a_stopped_trial_is_pruned_with_what_was_seen(tmp_path):
    study = make_study(tmp_path)
    fill(study)
    known, ended = stop_one(study)
    assert ended["state"] == "pruned"
    assert ended["reason"].startswith(f"{known.trial} stops at rung 10: rank 10 of 10, front 9 of")
    assert ended["values"] == scores(0.1)
    frozen = stored(tmp_path).trials[int(known.trial[1:])]
    assert frozen.state == TrialState.PRUNED
    assert frozen.values is None
    seen = frozen.user_attrs["rung:10"]
    assert (seen["step"], seen["values"], seen["stop"]) == (10, scores(0.1), True)
    assert (seen["rank"], seen["size"], seen["front_size"]) == (10, 10, 1)


def test_a_trial_that_someone_else_stopped_is_no_decision_of_the_rungs(tmp_path):
    study = make_study(tmp_path)
    fill(study)
    trial = study.next_trial().trial
    study.on_report(trial, 10, scores(0.99))
    assert study.tell(trial, {"state": "stopped", "reason": "asked to"})["state"] == "stopped"


def test_a_trial_that_was_done_before_it_heard_is_complete(tmp_path):
    study = make_study(tmp_path)
    fill(study)
    trial = study.next_trial().trial
    assert study.on_report(trial, 10, scores(0.1)).stop
    ended = study.tell(trial, {"state": "complete", "step": 90, "values": scores(0.2)})
    assert ended["state"] == "complete"


def test_a_decision_that_nobody_was_told_holds_when_the_trial_goes_on(tmp_path):
    study = make_study(tmp_path)
    fill(study)
    trial = study.next_trial().trial
    decided = study.on_report(trial, 10, scores(0.1))
    assert decided.stop
    # The driver is killed; the trial goes on from a checkpoint that it wrote at the rung.
    again = make_study(tmp_path)
    assert again.on_report(trial, 20, scores(0.99)) == decided
    assert again.on_report(trial, 30, scores(0.99)) == decided
    ended = again.tell(trial, {"state": "stopped", "step": 30, "values": scores(0.99)})
    assert ended["state"] == "pruned"
    seen = stored(tmp_path).trials[int(trial[1:])].user_attrs
    assert [key for key in seen if key.startswith("rung:")] == ["rung:10"]


def test_baselines_are_never_stopped_and_neither_is_anyone_at_the_end(tmp_path):
    study = make_study(tmp_path, first=[{"selection.ratio": 0.5}])
    asked = [study.next_trial().trial for _ in range(2)]
    fill(study)
    for trial in asked:
        assert not study.on_report(trial, 10, scores(0.0)).stop
    other = study.next_trial().trial
    assert not study.on_report(other, 90, scores(0.0), last=True).stop


@pytest.mark.parametrize("broken", [{"task/score": math.nan}, {"forgetting/mean": math.inf}])
def test_no_number_stops_nobody_and_is_failed_at_the_end(tmp_path, broken):
    study = make_study(tmp_path)
    fill(study)
    trial = study.next_trial().trial
    values = {**scores(0.1), **broken}
    assert study.on_report(trial, 10, values) is None
    assert study.on_report(trial, 30, {"train/loss": 1.0}) is None
    ended = study.tell(trial, {"state": "complete", "step": 90, "values": values})
    assert ended["state"] == "failed"
    assert not study.on_report(study.next_trial().trial, 10, scores(0.9)).stop


def test_a_driver_that_starts_again_decides_alike(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    for folder in (one, two):
        folder.mkdir()
    rows = [0.5, 0.2, 0.7, 0.1, 0.65, 0.3, 0.8, 0.4, 0.75, 0.35, 0.6]
    through, cut = make_study(one), make_study(two)
    told = []
    for i, x in enumerate(rows):
        if i == 6:
            del cut
            cut = make_study(two)
            # Those under way come back first, and by their rung once more.
            for before in told:
                again = cut.next_trial()
                assert cut.on_report(again.trial, 10, scores(0.0)) == before
        verdicts = [
            study.on_report(study.next_trial().trial, 10, scores(x, 0.5))
            for study in (through, cut)
        ]
        assert verdicts[0] == verdicts[1]
        told.append(verdicts[0])
    assert {verdict.stop for verdict in told} == {True, False}


def test_a_stopped_trial_is_taken_along_the_line_of_the_others():
    sweep = Extrapolation()
    # From rung 10 to 30 the median goes from 3 to 20 and what was 1 apart is 10; then 1 on top.
    for trial, (a, b) in enumerate([(1, 0), (2, 10), (3, 20), (4, 30), (5, 40)]):
        sweep.add_rung(trial, 10, [a, -a])
        sweep.add_rung(trial, 30, [b, -b])
        sweep.add_end(trial, [b + 1, -b - 1])
    sweep.add_rung(7, 10, [0.0, 2.0])
    sweep.add_stopped(7)
    sweep.add_rung(8, 30, [7.0, 0.0])
    sweep.add_stopped(8)
    sweep.add_stopped(9)
    ends = sweep.estimates()
    assert ends == {7: pytest.approx([-9.0, 29.0]), 8: pytest.approx([8.0, -1.0])}


def test_noise_on_a_rung_is_not_told_as_a_good_end():
    sweep = Extrapolation()
    # In the first objective the rung says nothing of the end, in the second it says the contrary.
    for trial, (a, end) in enumerate([(1, 5), (1, 7), (3, 5), (3, 7), (2, 6)]):
        sweep.add_rung(trial, 10, [a, a, 1e200 * a])
        sweep.add_end(trial, [end, -a, 1e200 * a])
    sweep.add_rung(7, 10, [40.0, 40.0, 0.0])
    sweep.add_stopped(7)
    assert sweep.estimates() == {7: [6.0, -2.0, 0.0]}


def test_of_few_only_the_median_gain_is_known():
    sweep = Extrapolation()
    for trial, (a, end) in enumerate([(1, 5), (2, 9), (3, 30)]):
        sweep.add_rung(trial, 10, [a, 1.0])
        sweep.add_end(trial, [end, 1.0])
    sweep.add_rung(7, 10, [4.0, 0.5])
    sweep.add_stopped(7)
    assert sweep.estimates() == {7: [4.0 + 9 - 2, 0.5]}


def test_without_anyone_further_on_the_last_values_stand():
    sweep = Extrapolation()
    sweep.add_rung(1, 10, [1.0])
    sweep.add_stopped(1)
    assert sweep.estimates() == {1: [1.0]}


def test_dominance_on_a_rung_is_kept():
    sweep = Extrapolation()
    for trial, value in enumerate([[1, 2], [2, 3], [0, 9]]):
        sweep.add_rung(trial, 10, value)
        sweep.add_stopped(trial)
    sweep.add_rung(5, 10, [3, 3])
    sweep.add_end(5, [7, 8])
    ends = sweep.estimates()
    assert ends == {0: [5.0, 7.0], 1: [6.0, 8.0], 2: [4.0, 14.0]}


def test_the_sampler_sees_stopped_trials_and_the_study_does_not_change(tmp_path, monkeypatch):
    views = record_views(monkeypatch)
    study = make_study(tmp_path)
    fill(study)
    known, _ = stop_one(study)
    newest = study.next_trial()
    number = int(known.trial[1:])
    seen = {trial.number: trial for trial in views[int(newest.trial[1:])]}
    assert seen[number].state == TrialState.COMPLETE
    # Nobody has come further than the first rung: where it was is all there is.
    assert seen[number].values == list(scores(0.1).values())
    assert stored(tmp_path).trials[number].state == TrialState.PRUNED
    # Full fine-tuning lies outside the space, so that it lacks the parameter that is searched.
    assert 0 not in seen
    assert stored(tmp_path).trials[0].params == {}


def near_or_far(study):
    """Near 0.2 trials go on, far from it they are stopped; return what is asked for."""
    asked = []
    while (known := study.next_trial()) is not None:
        ratio = known.params["selection.ratio"]
        asked.append(ratio)
        quality = 1 - abs(ratio - 0.2)
        if study.on_report(known.trial, 10, scores(quality)).stop:
            study.tell(known.trial, {"state": "stopped", "step": 10, "values": scores(quality)})
    # Whoever goes on stays under way: nobody is ever complete.
    assert {known.state for known in study.trials()} == {"pruned", "running"}
    assert len(set(asked)) == len(asked)
    return asked


def test_a_model_learns_from_stopped_trials_alone(tmp_path):
    asked = near_or_far(make_study(tmp_path, trials=46, seed=3))
    far = [abs(ratio - 0.2) for ratio in asked]
    assert sum(far[-8:]) / 8 < 0.2 < sum(far[1:7]) / 6


@pytest.mark.parametrize("sampler", ["nsga2", "nsga3"])
def test_stopped_trials_make_generations(tmp_path, sampler):
    near_or_far(make_study(tmp_path, sampler=sampler, trials=40, seed=3))
    generations = [
        value
        for trial in stored(tmp_path).trials
        for key, value in trial.system_attrs.items()
        if key.endswith(":generation")
    ]
    assert generations[0] == 0 < generations[-1]


@pytest.mark.parametrize(
    "sampler", ["tpe", "tpe_multivariate", "nsga2", "nsga3", "gp", "random", "sobol"]
)
def test_trials_at_the_same_time_differ_and_the_seed_decides(tmp_path, sampler):
    def ask(folder, seed):
        folder.mkdir()
        study = make_study(folder, sampler=sampler, scheduler="none", seed=seed, trials=15)
        for i in range(6):
            known = study.next_trial()
            values = scores(known.params["selection.ratio"], i % 3)
            study.tell(known.trial, {"state": "complete", "step": 90, "values": values})
        return [study.next_trial().params["selection.ratio"] for _ in range(4)]

    first = ask(tmp_path / "a", 1)
    assert ask(tmp_path / "b", 1) == first
    assert ask(tmp_path / "c", 2) != first
    assert len(set(first)) == 4


class Trial:
    def __init__(self, config):
        self.config = config


def test_tunes_scheduler_asks_the_workers_to_stop(tmp_path):
    study = make_study(tmp_path)
    fill(study)
    searcher, asked = StudySearcher(study), []
    scheduler = StudyScheduler(study, asked.append)
    trial = Trial(searcher.suggest("tune-0"))
    report = {**scores(0.1), "hft_step": 10, "hft_last": False, "outcome": None}
    # Tune goes on with it: it ends when its workers say so.
    assert scheduler.on_trial_result(None, trial, report) == "CONTINUE"
    assert asked == [trial.config["trial"]]
    outcome = {"state": "stopped", "step": 12, "values": scores(0.1)}
    last = {**report, "outcome": json.dumps(outcome)}
    assert scheduler.on_trial_result(None, trial, last) == "CONTINUE"
    assert len(asked) == 1
    searcher.on_trial_complete("tune-0", last)
    assert study.trials()[-1].result["state"] == "pruned"
    assert study.trials()[-1].state == "pruned"
