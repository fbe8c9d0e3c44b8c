"""Optuna keeps what :mod:`hft_ray.compat.optuna` relies on."""

from __future__ import annotations

import optuna
import pytest

from hft_ray.compat.optuna import StudyProxy, fixed_params, set_constraint, set_fixed_params

VERSIONS = "hft_ray/compat/optuna.py holds for Optuna 5.0"


@pytest.fixture
def study():
    return optuna.create_study(storage=optuna.storages.InMemoryStorage(), study_name="canary")


def test_a_queued_trial_has_its_values_under_the_name_that_we_read(study):
    study.enqueue_trial({"x": 0.25})
    assert fixed_params(study.trials[0]) == {"x": 0.25}, VERSIONS


def test_a_queued_trial_takes_the_values_that_we_write():
    storage = optuna.storages.InMemoryStorage()
    study = optuna.create_study(storage=storage, study_name="canary")
    study.enqueue_trial({"x": 0.25})
    place = storage.get_trial_id_from_study_id_trial_number(
        storage.get_study_id_from_name("canary"), 0
    )
    set_fixed_params(storage, place, {"x": 0.75})
    assert study.ask().suggest_float("x", 0, 1) == 0.75, VERSIONS


def test_a_constraint_that_we_write_is_one_of_optunas():
    storage = optuna.storages.InMemoryStorage()
    study = optuna.create_study(storage=storage, study_name="canary")
    study.ask()
    place = storage.get_trial_id_from_study_id_trial_number(
        storage.get_study_id_from_name("canary"), 0
    )
    set_constraint(storage, place, "cost <= 1", 0.5)
    assert study.trials[0].constraints == {"cost <= 1": 0.5}, VERSIONS


@pytest.mark.parametrize("deepcopy", [True, False])
def test_a_view_answers_as_a_study_does(study, deepcopy):
    class All(StudyProxy):
        def seen(self):
            return self._study.get_trials(deepcopy=False)

    study.tell(study.ask(), 1.0)
    study.ask()
    for states in (None, (optuna.trial.TrialState.COMPLETE,)):
        theirs = study.get_trials(deepcopy, states)
        assert All(study).get_trials(deepcopy, states) == theirs
    assert All(study).directions == study.directions


@pytest.mark.parametrize("sampler", ["TPESampler", "NSGAIISampler", "NSGAIIISampler", "GPSampler"])
def test_samplers_read_the_trials_of_a_study_where_a_view_answers(study, sampler):
    class Watched(StudyProxy):
        def seen(self):
            looks.append(1)
            return self._study.get_trials(deepcopy=False)

    looks = []
    for _ in range(12):
        trial = study.ask()
        study.tell(trial, trial.suggest_float("x", 0, 1))
    trial = study.ask()
    chosen = getattr(optuna.samplers, sampler)(seed=1)
    view = Watched(study)
    space = chosen.infer_relative_search_space(view, study.trials[-1])
    chosen.sample_relative(view, study.trials[-1], space)
    distribution = optuna.distributions.FloatDistribution(0, 1)
    chosen.sample_independent(view, study.trials[-1], "x", distribution)
    assert looks, f"{sampler} reads the study's trials elsewhere; {VERSIONS}"
    assert trial.number == 12
