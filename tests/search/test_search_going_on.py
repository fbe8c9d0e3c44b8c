"""What a sweep keeps when it goes on: what was asked for, its time, what earlier sweeps know."""

from __future__ import annotations

import itertools

import pytest
from studies import stored

from hft_ray.config.load import validate
from hft_ray.search import Study
from hft_ray.search.prior_trials import PriorTrial, WarmStart
from hft_ray.search.stopping_criteria import StoppingCriteria
from hft_ray.search.trial_snapshot import TrialSnapshot

KINDS = ["model", "layer", "category"]
SPACE = {
    "selection.ratio": {"low": 0.1, "high": 0.9},
    "selection.granularity": KINDS,
    "training.weight_decay": {"low": 0.0, "high": 0.1, "when": {"selection.granularity": "layer"}},
}


def make_config(**search):
    search = {"space": SPACE, "trials": 8, **search}
    return validate(
        {"name": "s", "model": "m", "data": {"train": "t.jsonl"}, "search": search}, "test.yaml"
    )


def tell(study, known):
    ratio = known.params["selection.ratio"]
    values = {"task/score": ratio, "forgetting/mean": ratio**2}
    study.tell(known.trial, {"state": "complete", "step": 3, "values": values})


def test_a_narrower_list_keeps_what_was_queued(tmp_path):
    first = [{"selection.granularity": kind, "selection.ratio": 0.5} for kind in KINDS]
    points = [PriorTrial("a/t0001", {"selection.granularity": kind}) for kind in KINDS[1:]]
    warm = WarmStart(points=tuple(points))
    study = Study(make_config(first=first), tmp_path / "search.jsonl", warm)
    tell(study, study.next_trial())
    # The driver dies with the first of them begun, and not a setting of it drawn.
    stored(tmp_path).ask()
    narrow = {**SPACE, "selection.granularity": ["layer", "category"]}
    study = Study(make_config(first=first, space=narrow), tmp_path / "search.jsonl", warm)
    trials = [study.next_trial().params for _ in range(5)]
    # What was asked for holds outside the space too.
    assert [each["selection.granularity"] for each in trials] == [*KINDS, *KINDS[1:]]
    assert [each["selection.ratio"] for each in trials[:3]] == [0.5] * 3


def test_a_point_of_an_earlier_sweep_that_a_narrower_space_excludes_is_drawn(tmp_path):
    points = (PriorTrial("a/t0001", {"selection.granularity": "layer", "selection.ratio": 0.8}),)
    Study(make_config(), tmp_path / "search.jsonl", WarmStart(points=points))
    narrow = {**SPACE, "selection.ratio": {"low": 0.1, "high": 0.4}}
    study = Study(make_config(space=narrow), tmp_path / "search.jsonl", WarmStart(points=points))
    study.next_trial()
    params = study.next_trial().params
    assert params["selection.granularity"] == "layer"
    assert 0.1 <= params["selection.ratio"] <= 0.4


def earlier():
    """Trials of which only those with granularity layer have a weight decay."""
    for number, (kind, ratio) in enumerate(itertools.product(KINDS, (0.2, 0.4, 0.6, 0.8))):
        params = {"selection.granularity": kind, "selection.ratio": ratio}
        if kind == "layer":
            params["training.weight_decay"] = ratio / 10
        yield PriorTrial(f"a/t{number:04d}", params, [ratio, ratio**2])


@pytest.mark.parametrize("sampler", ["tpe", "gp"])
def test_a_model_of_settings_that_not_every_earlier_trial_has(tmp_path, sampler):
    # In this order Optuna's own look at them would end before it came to the others.
    known = sorted(earlier(), key=lambda each: len(each.params))
    config = make_config(sampler=sampler, trials=4)
    study = Study(config, tmp_path / "search.jsonl", WarmStart(known=tuple(known)))
    trials = []
    while (trial := study.next_trial()) is not None:
        trials.append(trial.params)
        tell(study, trial)
    assert len(trials) == 4
    for params in trials[1:]:
        applies = params["selection.granularity"] == "layer"
        assert ("training.weight_decay" in params) == applies


def test_a_killed_command_has_taken_its_time(tmp_path):
    config = make_config(budget={"hours": 1})
    study = Study(config, tmp_path / "search.jsonl")
    known = study.next_trial()
    study.set_elapsed(3590)
    # It is killed; the next one has ten seconds left.
    study = Study(config, tmp_path / "search.jsonl")
    assert study.next_trial().trial == known.trial
    assert study.ended_early is None
    study.set_elapsed(11)
    assert study.next_trial() is None
    assert study.ended_early == "1 of 1 hours are spent"


def test_failed_trials_have_taken_their_devices_too():
    config = make_config(budget={"device_hours": 2})
    cluster = config.cluster.model_copy(update={"workers": 2})
    criteria = StoppingCriteria(config.search, cluster, 0.0)
    complete = TrialSnapshot("t0000", "complete", {}, {"values": {"cost/device_seconds": 3500.0}})
    # It was scored once, and went on for an hour; another one was never scored.
    failed = {"values": {"cost/device_seconds": 100.0}, "seconds": 1800.0}
    criteria.update([complete, TrialSnapshot("t0001", "failed", {}, failed)])
    assert criteria.spent is None
    criteria.update(
        [
            complete,
            TrialSnapshot("t0001", "failed", {}, failed),
            TrialSnapshot("t0002", "failed", {}, {"seconds": 60.0}),
        ]
    )
    assert criteria.spent == "2.01 of 2 device hours are spent"
