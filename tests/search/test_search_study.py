"""The study: which trials a sweep has, in which order, and how each of them ends."""

from __future__ import annotations

import json
import math
import tempfile
from pathlib import Path

import pytest
from optuna.trial import TrialState
from studies import stored

from hft_ray.config import ConfigError
from hft_ray.config.load import validate
from hft_ray.config.rules.combinations import ordered
from hft_ray.search import Study

SPACE = {
    "selection.ratio": {"low": 0.05, "high": 1.0},
    "selection.granularity": ["model", "layer", "category"],
    "training.learning_rate": {"low": 1e-5, "high": 1e-2, "log": True},
    "training.batch_size": {"low": 2, "high": 64},
}


@pytest.fixture
def tmp_path(tmp_path):
    """A folder in memory where there is one: a study is all small synchronous writes."""
    memory = Path("/dev/shm")
    if not memory.is_dir():
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        yield Path(folder)


def make_config(space=SPACE, trials=12, **search):
    raw = {
        "name": "s",
        "model": "nowhere/model",
        "data": {"train": "nowhere.jsonl"},
        "selection": {"ratio": 0.5},
        "search": {"space": space, "trials": trials, **search},
    }
    return validate(raw, "test.yaml")


def make_study(tmp_path, **search):
    return Study(make_config(**search), tmp_path / "search.jsonl")


def optuna_trials(tmp_path):
    return stored(tmp_path).trials


def complete(score=0.5, lost=0.1, **more):
    values = {"task/score": score, "forgetting/mean": lost}
    return {"state": "complete", "step": 3, "values": values, **more}


def run_all(study):
    """Run every trial on a made-up trade-off; return their settings."""
    asked = []
    while (known := study.next_trial()) is not None:
        asked.append(known.params)
        ratio = known.params["selection.ratio"]
        study.tell(known.trial, complete(score=ratio, lost=ratio**2))
    return asked


def test_full_fine_tuning_is_the_first_trial(tmp_path):
    first = make_study(tmp_path).next_trial()
    assert first.trial == "t0000"
    assert first.params["selection.ratio"] == 1.0
    assert set(first.params) == set(SPACE)


@pytest.mark.parametrize(
    "entry",
    [None, {"low": 0.25, "high": 0.75}, [0.25, 0.5], {"low": 0.1, "high": 0.9, "log": True}],
)
def test_full_fine_tuning_is_first_even_outside_the_space(tmp_path, entry):
    space = {**SPACE, "selection.ratio": entry}
    if entry is None:
        del space["selection.ratio"]
    study = make_study(tmp_path, space=space, trials=4)
    first = study.next_trial()
    assert first.params["selection.ratio"] == 1.0
    study.tell(first.trial, complete())
    for _ in range(3):
        later = study.next_trial()
        if entry is None:
            assert "selection.ratio" not in later.params
        else:
            assert later.params["selection.ratio"] < 1.0
    assert study.next_trial() is None


def test_first_trials_run_first_in_their_order(tmp_path):
    asked = [
        {"selection.ratio": 0.25, "selection.granularity": "layer"},
        {"training.learning_rate": 0.5, "training.seed": 7},
    ]
    study = make_study(tmp_path, first=asked)
    full, one, two = (study.next_trial().params for _ in range(3))
    assert full["selection.ratio"] == 1.0
    assert one.items() >= asked[0].items()
    # Neither the learning rate, outside its interval, nor the seed, not searched, is Optuna's.
    assert two.items() >= asked[1].items()
    assert set(two) == {*SPACE, "training.seed"}


def test_full_fine_tuning_among_the_first_trials_is_not_repeated(tmp_path):
    asked = [{"selection.ratio": 0.5}, {"selection.ratio": 1.0, "training.learning_rate": 1e-3}]
    study = make_study(tmp_path, first=asked, trials=20)
    ratios = [study.next_trial().params["selection.ratio"] for _ in range(20)]
    assert ratios[:2] == [0.5, 1.0]
    assert ratios.count(1.0) == 1


def test_a_driver_that_died_while_queueing_leaves_no_first_trial_out(tmp_path):
    asked = [{"selection.ratio": ratio} for ratio in (1.0, 0.3, 0.4)]
    study = make_study(tmp_path, first=asked[:1])
    del study
    again = make_study(tmp_path, first=asked)
    assert [again.next_trial().params["selection.ratio"] for _ in range(3)] == [1.0, 0.3, 0.4]


CONDITIONAL = {
    "training.schedule": ["cosine", "constant"],
    "training.warmup": {"low": 0.1, "high": 0.5, "when": {"training.schedule": "cosine"}},
    "selection.seed": {"low": 1, "high": 9, "when": {"selection.reselect": [10, 20]}},
    "selection.reselect": ["never", 10, 20],
}


def test_conditional_settings_appear_only_when_they_apply(tmp_path):
    study = make_study(tmp_path, space=CONDITIONAL, trials=20, sampler="random")
    seen = set()
    for _ in range(20):
        known = study.next_trial()
        params = known.params
        assert ("training.warmup" in params) == (params["training.schedule"] == "cosine")
        assert ("selection.seed" in params) == (params["selection.reselect"] != "never")
        seen.add((params["training.schedule"], params["selection.reselect"]))
        study.tell(known.trial, complete())
    assert len(seen) == 6


def test_a_condition_that_names_a_fixed_setting_looks_at_its_value(tmp_path):
    # selection.ratio is 1.0 in the first trial though it is not in the space as 1.0.
    space = {
        "selection.ratio": [0.25, 0.5],
        "selection.reselect": {"choices": ["never", 5], "when": {"selection.ratio": [0.25, 0.5]}},
    }
    study = make_study(tmp_path, space=space)
    assert "selection.reselect" not in study.next_trial().params
    assert "selection.reselect" in study.next_trial().params


def test_what_first_asks_for_holds_whether_or_not_its_condition_does(tmp_path):
    asked = {"training.schedule": "constant", "training.warmup": 0.2, "selection.ratio": 1.0}
    study = make_study(tmp_path, space=CONDITIONAL, first=[asked])
    assert study.next_trial().params.items() >= asked.items()


def test_conditions_are_asked_for_before_what_depends_on_them():
    config = make_config(space=CONDITIONAL)
    order = ordered(config.search.space)
    assert sorted(order) == sorted(CONDITIONAL)
    assert order.index("selection.reselect") < order.index("selection.seed")


def test_choices_of_mixed_types_and_lists_come_back_as_written(tmp_path):
    betas = [[0.9, 0.999], [0.8, 0.99]]
    space = {
        "selection.reselect": ["never", "epoch", 10],
        "training.adam_betas": betas,
        "training.micro_batch_size": [None, 1, 2],
        "training.gradient_checkpointing": [True, False],
    }
    study = make_study(tmp_path, space=space, trials=25, sampler="random")
    seen = {key: [] for key in space}
    for _ in range(25):
        known = study.next_trial()
        for key in space:
            seen[key].append(known.params[key])
        study.tell(known.trial, complete())
    for key, choices in space.items():
        assert all(any(v == c and type(v) is type(c) for c in choices) for v in seen[key]), key
        assert all(choice in seen[key] for choice in choices), key


def test_intervals_keep_their_type_and_their_ends(tmp_path):
    space = {
        "training.batch_size": {"low": 1, "high": 3},
        "training.steps": {"low": 10, "high": 1000, "log": True},
        "training.weight_decay": {"low": 0, "high": 0.5},
        "training.learning_rate": {"low": 1e-6, "high": 1e-1, "log": True},
    }
    study = make_study(tmp_path, space=space, trials=40, sampler="random")
    params = [study.next_trial().params for _ in range(40)]
    assert {p["training.batch_size"] for p in params} == {1, 2, 3}
    assert all(
        type(p["training.steps"]) is int and 10 <= p["training.steps"] <= 1000 for p in params
    )
    assert all(type(p["training.weight_decay"]) is float for p in params)
    # On a logarithmic scale half of the draws lie below the geometric mean of the ends.
    rates = [p["training.learning_rate"] for p in params]
    assert 10 <= sum(rate < 10**-3.5 for rate in rates) <= 30


@pytest.mark.parametrize("sampler", ["tpe", "nsga2", "gp", "random", "sobol"])
def test_every_sampler_is_determined_by_its_seed(tmp_path, sampler):
    runs = []
    # A Gaussian process is slow: few trials here, twelve over mixed settings in the next test.
    trials = 7 if sampler == "gp" else 12
    for number, seed in enumerate((3, 3, 4)):
        folder = tmp_path / str(number)
        folder.mkdir()
        study = make_study(folder, trials=trials, sampler=sampler, seed=seed)
        runs.append(run_all(study))
        states = [trial.state for trial in optuna_trials(folder)]
        assert states == [TrialState.COMPLETE] * trials
    assert runs[0] == runs[1]
    assert runs[0][1:] != runs[2][1:]
    if sampler != "nsga2":  # whose children may equal a parent
        assert len({json.dumps(params) for params in runs[0]}) == trials


@pytest.mark.parametrize("sampler", ["tpe", "nsga2", "gp", "random", "sobol"])
def test_a_resumed_sweep_does_not_draw_again_what_it_drew(tmp_path, sampler):
    study = make_study(tmp_path, sampler=sampler)
    first = []
    for _ in range(9):
        known = study.next_trial()
        first.append(known.params)
        study.tell(known.trial, complete(score=known.params["selection.ratio"]))
    later = run_all(make_study(tmp_path, sampler=sampler))
    assert len(later) == 3
    assert all(params not in first for params in later)


@pytest.mark.parametrize(
    ("outcome", "state", "told"),
    [
        (complete(), TrialState.COMPLETE, "complete"),
        (complete(score=math.nan), TrialState.FAIL, "failed"),
        (complete(lost=math.inf), TrialState.FAIL, "failed"),
        (
            {"state": "complete", "step": 3, "values": {"task/score": 0.5}},
            TrialState.FAIL,
            "failed",
        ),
        ({"state": "complete"}, TrialState.FAIL, "failed"),
        (complete(state="stopped"), TrialState.PRUNED, "stopped"),
        (complete(state="pruned"), TrialState.PRUNED, "pruned"),
        ({"state": "stopped", "reason": "asked"}, TrialState.PRUNED, "stopped"),
        ({"state": "failed", "reason": "it broke"}, TrialState.FAIL, "failed"),
        (complete(state="failed", score=math.nan), TrialState.FAIL, "failed"),
    ],
)
def test_every_end_has_its_state(tmp_path, outcome, state, told):
    study = make_study(tmp_path)
    study.tell(study.next_trial().trial, outcome)
    trial = optuna_trials(tmp_path)[0]
    assert trial.state == state
    (known,) = study.trials()
    assert known.result["state"] == told
    if outcome.get("reason"):
        assert known.result["reason"] == outcome["reason"]
    assert all(math.isfinite(value) for value in known.result["values"].values())


def test_what_a_trial_lacks_is_said(tmp_path):
    study = make_study(tmp_path)
    study.tell(study.next_trial().trial, complete(score=math.nan))
    assert study.trials()[0].result["reason"] == "no finite value for task/score"


def test_the_directions_are_those_of_the_objectives(tmp_path):
    study = make_study(tmp_path, trials=3)
    for score, lost in ((0.9, 0.5), (0.2, 0.1), (0.5, 0.6)):
        study.tell(study.next_trial().trial, complete(score, lost))
    loaded = stored(tmp_path)
    assert [trial.number for trial in loaded.best_trials] == [0, 1]


def test_the_first_end_counts(tmp_path):
    study = make_study(tmp_path)
    trial = study.next_trial().trial
    study.tell(trial, complete(score=0.7))
    study.tell(trial, {"state": "failed", "reason": "late"})
    (known,) = study.trials()
    assert known.state == "complete"
    assert known.result["values"]["task/score"] == 0.7


def test_a_failed_trial_counts_as_one_of_the_planned(tmp_path):
    study = make_study(tmp_path, trials=3)
    for _ in range(3):
        study.tell(study.next_trial().trial, {"state": "failed", "reason": "no"})
    assert study.next_trial() is None
    assert study.left() == 0


@pytest.mark.parametrize("sampler", ["tpe", "gp", "sobol"])
def test_trials_that_were_under_way_come_back_as_they_were(tmp_path, sampler):
    space = {**SPACE, **CONDITIONAL}
    first = [{"selection.ratio": 0.3, "training.seed": 5}]
    asked = {"space": space, "sampler": sampler, "first": first, "trials": 6}
    study = make_study(tmp_path, **asked)
    started = [study.next_trial() for _ in range(4)]
    study.tell(started[1].trial, complete())
    del study

    again = make_study(tmp_path, **asked)
    assert again.left() == 5
    back = [again.next_trial() for _ in range(3)]
    left = [known for known in started if known.trial != "t0001"]
    assert [(known.trial, known.params) for known in back] == [
        (known.trial, known.params) for known in left
    ]
    assert again.next_trial().trial == "t0004"
    for known in back:
        again.tell(known.trial, complete())
    again.tell("t0004", complete())
    assert again.left() == 1
    again.tell(again.next_trial().trial, complete())
    assert again.next_trial() is None
    assert [trial.state for trial in optuna_trials(tmp_path)] == [TrialState.COMPLETE] * 6


def test_a_trial_asked_for_but_not_yet_drawn_comes_back(tmp_path):
    make_study(tmp_path)
    # The driver dies between Optuna's ask and the first suggestion.
    stored(tmp_path).ask()
    again = make_study(tmp_path)
    known = again.next_trial()
    assert known.trial == "t0000"
    assert known.params["selection.ratio"] == 1.0
    assert set(known.params) == set(SPACE)


def test_more_trials_extend_the_sweep(tmp_path):
    study = make_study(tmp_path, trials=4)
    before = run_all(study)
    assert study.next_trial() is None
    longer = make_study(tmp_path, trials=7)
    assert longer.left() == 3
    after = run_all(longer)
    assert len(after) == 3
    assert [known.trial for known in longer.trials()] == [f"t{n:04d}" for n in range(7)]
    assert [known.params for known in longer.trials()] == before + after


def test_fewer_trials_than_first_ones_run_the_first_of_them(tmp_path):
    asked = [{"selection.ratio": ratio} for ratio in (0.2, 0.3, 0.4)]
    study = make_study(tmp_path, trials=2, first=asked)
    assert [p["selection.ratio"] for p in run_all(study)] == [1.0, 0.2]


def test_other_directions_are_refused(tmp_path):
    make_study(tmp_path)
    objectives = {"task/score": "max", "forgetting/mean": "max"}
    with pytest.raises(ConfigError, match="take another name") as caught:
        make_study(tmp_path, objectives=objectives)
    assert caught.value.problems[0].path == "search.objectives"


def test_one_objective_is_enough(tmp_path):
    study = make_study(tmp_path, objectives={"task/score": "max"}, trials=2)
    assert len(run_all(study)) == 2
    assert [trial.value for trial in optuna_trials(tmp_path)] == pytest.approx(
        [p.params["selection.ratio"] for p in study.trials()]
    )


def test_what_was_asked_for_beyond_the_trials_does_not_keep_seeds_from_beginning(tmp_path):
    first = [{"training.learning_rate": rate} for rate in (1e-3, 2e-3, 3e-3, 4e-3, 5e-3)]
    config = make_config(trials=3, seeds=2, first=first)
    study = Study(config, tmp_path / "search.jsonl")
    found = []
    while (known := study.next_trial()) is not None:
        rate = known.params["training.learning_rate"]
        values = {"task/score": rate, "forgetting/mean": rate}
        study.tell(known.trial, {"state": "complete", "step": 3, "values": values})
        found.append(study.configuration(known.trial))
    # Three configurations, and each of those has its second seed once.
    assert len(set(found)) == 3
    assert sorted(found) == sorted([*set(found), *set(found)])
