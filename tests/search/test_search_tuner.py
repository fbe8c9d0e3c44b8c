"""The searcher inside a real ``ray.tune.Tuner``: however a trial ends, Optuna hears of it."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from hft_ray.config.load import validate
from hft_ray.orchestration.ray_cluster import QUIET
from hft_ray.search import Study
from hft_ray.search.scheduler import StudyScheduler
from hft_ray.search.searcher import StudySearcher

pytestmark = pytest.mark.cluster

ENDS = ["complete", "raises", "nan", "missing", "stopped", "silent", "complete"]
STATES = ["COMPLETE", "FAIL", "FAIL", "FAIL", "PRUNED", "FAIL", "COMPLETE"]


@pytest.fixture(scope="module")
def ray_cluster():
    ray = pytest.importorskip("ray")
    before = {key: os.environ.get(key) for key in QUIET}
    os.environ.update(QUIET)
    ray.init(
        address="local",
        num_cpus=1,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
    )
    yield ray
    ray.shutdown()
    for key, value in before.items():
        if value is None:
            del os.environ[key]
        else:
            os.environ[key] = value


def make_trainable():
    from ray import tune

    class Ends(tune.Trainable):
        """Ends at once, each trial in its own way. Defined here so that Ray ships it by value."""

        def setup(self, config):
            assert json.loads(config["params"])["selection.ratio"] <= 1.0
            self.how = ENDS[int(config["trial"][1:])]

        def reset_config(self, new_config):
            self.setup(new_config)
            return True

        def step(self):
            values = {"task/score": 0.5, "forgetting/mean": 0.1}
            if self.how == "raises":
                raise RuntimeError("as planned")
            if self.how == "silent":
                return {**values, "done": True}
            if self.how == "nan":
                values["task/score"] = math.nan
            if self.how == "missing":
                del values["task/score"]
            state = "stopped" if self.how == "stopped" else "complete"
            outcome = {"state": state, "step": 1, "values": values}
            return {**values, "outcome": json.dumps(outcome), "done": True}

    return Ends


def make_study(folder):
    raw = {
        "name": "s",
        "model": "m",
        "data": {"train": "t.jsonl"},
        "search": {"space": {"selection.ratio": {"low": 0.1, "high": 1.0}}, "trials": len(ENDS)},
    }
    return Study(validate(raw, "test.yaml"), folder / "search.jsonl")


def test_a_sweep_that_is_cut_short_fails_no_trial(tmp_path):
    study = make_study(tmp_path)
    searcher = StudySearcher(study)
    config = searcher.suggest("tune's id")
    assert config["trial"] == "t0000"
    assert json.loads(config["params"])["selection.ratio"] == 1.0
    searcher.close()
    # The end of the sweep takes the trial's actors along, which Tune reports as an error.
    searcher.on_trial_complete("tune's id", None, error=True)
    assert searcher.suggest("another") == "FINISHED"
    assert [known.state for known in study.trials()] == ["running"]
    assert make_study(tmp_path).next_trial().trial == "t0000"


def test_every_end_reaches_the_study(ray_cluster, tmp_path):
    from ray import tune

    study = make_study(tmp_path)
    tuner = tune.Tuner(
        tune.with_resources(make_trainable(), {"cpu": 0.5}),
        tune_config=tune.TuneConfig(
            search_alg=StudySearcher(study),
            num_samples=50,
            max_concurrent_trials=2,
            # As in a sweep, and a process takes seconds to start.
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name="s",
            storage_path=str(tmp_path / "tune"),
            verbose=0,
            checkpoint_config=tune.CheckpointConfig(
                checkpoint_frequency=0, checkpoint_at_end=False
            ),
        ),
    )
    results = tuner.fit()
    # The study, not num_samples, says how many there are.
    assert len(results) == len(ENDS)
    storage = JournalStorage(JournalFileBackend(str(tmp_path / "search.jsonl")))
    trials = optuna.load_study(study_name="s", storage=storage).trials
    assert [trial.state for trial in trials] == [TrialState[state] for state in STATES]
    assert trials[0].params["selection.ratio"] == 1.0
    reasons = [known.result.get("reason") for known in study.trials()]
    assert reasons[1] == reasons[5] == "the trial ended without a result"
    assert reasons[2] == reasons[3] == "no finite value for task/score"
    assert study.next_trial() is None


def make_learner():
    from ray import tune

    class Learns(tune.Trainable):
        """Reports three times, and ends where it is when it finds that it was asked to stop."""

        def setup(self, config):
            self.trial, self.done_steps = config["trial"], 0
            self.asked = Path(json.loads(config["params"])["model.name"]) / self.trial

        def reset_config(self, new_config):
            self.setup(new_config)
            return True

        def step(self):
            self.done_steps += 10
            # t0000 is full fine-tuning and the worst of all, each other worse than the one before.
            quality = 0.95 - 0.05 * (int(self.trial[1:]) or 18)
            values = {"task/score": quality, "forgetting/mean": 1 - quality}
            stop = self.asked.exists()
            outcome = None
            if stop or self.done_steps == 40:
                state = "stopped" if stop else "complete"
                outcome = {"state": state, "step": self.done_steps, "values": values}
            return {
                **values,
                "hft_step": self.done_steps,
                "hft_last": self.done_steps == 40,
                "outcome": None if outcome is None else json.dumps(outcome),
                "done": outcome is not None,
            }

    return Learns


def test_the_rungs_stop_trials_of_a_tuner(ray_cluster, tmp_path):
    from ray import tune

    raw = {
        "name": "s",
        "model": str(tmp_path),
        "data": {"train": "t.jsonl"},
        "training": {"steps": 40},
        "evaluation": {"every": 10},
        "search": {
            "space": {"model.name": [str(tmp_path)]},
            "trials": 12,
            "scheduler": {"kind": "asha", "eta": 2},
        },
    }
    study = Study(validate(raw, "test.yaml"), tmp_path / "search.jsonl")
    scheduler = StudyScheduler(study, lambda trial: (tmp_path / trial).touch())
    tuner = tune.Tuner(
        tune.with_resources(make_learner(), {"cpu": 0.5}),
        tune_config=tune.TuneConfig(
            search_alg=StudySearcher(study),
            scheduler=scheduler,
            num_samples=50,
            max_concurrent_trials=1,
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name="rungs",
            storage_path=str(tmp_path / "tune"),
            verbose=0,
            checkpoint_config=tune.CheckpointConfig(
                checkpoint_frequency=0, checkpoint_at_end=False
            ),
        ),
    )
    tuner.fit()
    states = [known.result["state"] for known in study.trials()]
    # One after the other: the first eight show what a rung is worth, and after them half go on.
    assert states == [*["complete"] * 8, *["pruned"] * 4]
    reasons = {known.result["reason"] for known in study.trials()[8:]}
    assert all("stops at rung 10" in reason for reason in reasons)
    # Asked at the report of a rung, they leave at the next one.
    assert {known.result["step"] for known in study.trials()[8:]} == {20}
