"""Arms: equal budgets, the same deal after a restart, each searched by itself."""

from __future__ import annotations

import math
from collections import Counter

import pytest
import yaml
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from studies import record_views

from hft_ray.config import ConfigError, Variants
from hft_ray.config.load import validate
from hft_ray.config.rules.by_arm import by_arm
from hft_ray.config.sections.arms import arm_of, arm_variants
from hft_ray.orchestration.folder import to_yaml
from hft_ray.search import Study

SPACE = {
    "training.learning_rate": {"low": 1e-5, "high": 1e-2, "log": True},
    "selection.seed": [0, 1, 2],
}
ARMS = {
    "full": {},
    "hft": {},
    "lisa": {"set": {"selection.ratio": 0.25}},
    "averaging": {},
    "own": {
        "set": {"selection.strategy": "cyclic"},
        "space": {
            "selection.ratio": [0.25, 0.5],
            "training.learning_rate": {"low": 1e-3, "high": 1e-1, "log": True},
            "selection.seed": [7, 8],
        },
    },
}


def make_config(arms=ARMS, trials=12, space=SPACE, **search):
    search = {"space": space, "trials": trials, "arms": arms, "sampler": "random", **search}
    return validate(
        {"name": "s", "model": "m", "data": {"train": "t.jsonl"}, "search": search}, "test.yaml"
    )


def study_of(tmp_path, **search):
    return Study(make_config(**search), tmp_path / "search.jsonl")


def drain(study, most=math.inf):
    """Run trials to their ends, a higher learning rate being better; return their settings."""
    done = []
    while len(done) < most and (known := study.next_trial()) is not None:
        rate = known.params["training.learning_rate"]
        values = {"task/score": rate, "forgetting/mean": rate}
        study.tell(known.trial, {"state": "complete", "step": 3, "values": values})
        done.append(known.params)
    return done


def test_trials_are_dealt_in_turn_and_every_arm_has_as_many(tmp_path):
    asked = drain(study_of(tmp_path))
    assert [each["arm"] for each in asked[:8]] == ["full", "hft", "lisa", "own"] * 2
    assert Counter(each["arm"] for each in asked) == dict.fromkeys(by_arm(make_config()), 3)


def test_an_arm_has_what_it_fixes_and_searches_the_rest(tmp_path):
    full, hft, lisa, own = drain(study_of(tmp_path), 4)
    assert full["selection.ratio"] == 1.0
    assert full["selection.seed"] == 0
    assert (hft["selection.ratio"], hft["selection.granularity"]) == (0.5, "category")
    assert hft["selection.seed"] in (0, 1, 2)
    assert (lisa["selection.ratio"], lisa["selection.granularity"]) == (0.25, "layer")
    assert (lisa["selection.reselect"], lisa["training.moments"]) == (20, "reset")
    assert own["selection.strategy"] == "cyclic"
    assert own["selection.ratio"] in (0.25, 0.5)
    assert own["selection.seed"] in (7, 8)
    assert own["training.learning_rate"] >= 1e-3


def test_arms_with_one_space_try_the_same_rates_at_random(tmp_path):
    asked = drain(study_of(tmp_path, arms=["hft", "lisa"], trials=6))
    rates = [
        [each["training.learning_rate"] for each in asked if each["arm"] == arm]
        for arm in ("hft", "lisa")
    ]
    assert rates[0] == rates[1]
    assert len(set(rates[0])) == 3


@pytest.mark.parametrize("sampler", ["tpe", "sobol", "nsga2"])
def test_every_sampler_searches_each_arm_alone(tmp_path, sampler):
    study = study_of(tmp_path, sampler=sampler, trials=48)
    own = [each for each in drain(study) if each["arm"] == "own"]
    assert len(own) == 12
    assert all(1e-3 <= each["training.learning_rate"] <= 1e-1 for each in own)


def test_the_sampler_of_an_arm_sees_its_own_trials_alone(tmp_path, monkeypatch):
    views = record_views(monkeypatch)
    drain(study_of(tmp_path))
    for number, seen in views.items():
        # The trial itself is under way.
        assert {trial.number for trial in seen} == set(range(number % 4, number + 1, 4))


def test_generations_of_one_arm_are_not_those_of_another(tmp_path):
    study = study_of(tmp_path, arms={"full": {}, "hft": {}}, sampler="nsga2", trials=60)
    drain(study)
    storage = JournalStorage(JournalFileBackend(str(tmp_path / "search.jsonl")))
    place = storage.get_study_id_from_name("s")
    kept = [key for key in storage.get_study_system_attrs(place) if "parent" in key]
    assert {key.split(":")[1].split("/")[0] for key in kept} == {"full", "hft"}


def test_a_restart_deals_on_as_if_nothing_had_happened(tmp_path):
    whole = [each["arm"] for each in drain(study_of(tmp_path))]
    (tmp_path / "again").mkdir()
    first = drain(study_of(tmp_path / "again"), 5)
    crashed = study_of(tmp_path / "again").next_trial()
    rest = drain(study_of(tmp_path / "again"))
    assert rest[0] == crashed.params
    assert [each["arm"] for each in [*first, *rest]] == whole
    more = drain(study_of(tmp_path / "again", trials=16))
    assert [each["arm"] for each in more] == ["full", "hft", "lisa", "own"]


def test_a_restart_does_not_repeat_what_an_arm_has_tried(tmp_path):
    before = drain(study_of(tmp_path), 4)
    after = drain(study_of(tmp_path), 4)
    for one, other in zip(before, after, strict=True):
        assert one["training.learning_rate"] != other["training.learning_rate"]


def test_trials_are_stopped_by_others_of_their_arm_alone(tmp_path):
    config = validate(
        {
            "name": "s",
            "model": "m",
            "data": {"train": "t.jsonl"},
            "training": {"steps": 30},
            "evaluation": {"every": 10},
            "search": {
                "space": SPACE,
                "trials": 24,
                "arms": ["full", "hft"],
                "scheduler": {"kind": "asha", "epsilon": 0.0},
            },
        },
        "test.yaml",
    )
    study = Study(config, tmp_path / "search.jsonl")
    stops = {"full": [], "hft": []}
    for number in range(24):
        known = study.next_trial()
        arm = known.params["arm"]
        # The arm full is better throughout; within the arms trials differ alike.
        score = (0.5 if arm == "full" else 0.1) + 0.01 * (number // 2) * (-1) ** (number // 2)
        values = {"task/score": score, "forgetting/mean": 1 - score}
        verdict = study.on_report(known.trial, 10, values)
        assert verdict.size == number // 2 + 1
        stops[arm].append(verdict.stop)
    assert stops["full"] == stops["hft"]
    assert any(stops["hft"])
    assert not all(stops["hft"])


def test_a_config_goes_through_its_own_text():
    config = make_config(arms=["full", "hft", "half_reset"])
    assert validate(yaml.safe_load(to_yaml(config)), "again.yaml") == config


def test_variants_that_are_asked_for_and_are_no_arm_belong_to_every_arm():
    search = make_config(arms=["full", "hft", "half_reset"], variants={"averages": 2}).search
    own = Variants(averages=2, half_reset=False)
    assert arm_variants("hft", search.arms, search.variants) == own
    assert arm_variants("full", search.arms, search.variants) == Variants(averages=2)
    for arm in ("full", "hft"):
        assert arm_of(arm, None, search.arms) == arm
        assert arm_of(arm, "alpha-0.5", search.arms) == arm
        assert arm_of(arm, "step-5", search.arms) == arm
    assert arm_of("full", "reset-0.5", search.arms) == "half_reset"
    assert arm_of(None, "alpha-0.5", {}) is None
    again = validate(yaml.safe_load(to_yaml(make_config(variants={"depth": 2}))), "again.yaml")
    assert arm_variants("own", again.search.arms, again.search.variants).depth == 2


def test_variants_are_made_of_full_alone_and_as_the_arms_say():
    given = Variants(averages=2)
    both = make_config(arms=["full", "hft", "averaging", "half_reset"]).search.arms
    one = make_config(arms=["full", "hft", "half_reset"]).search.arms
    none = Variants(averages=0, half_reset=False)
    tilted = make_config(arms=["full", "depth"], variants={"depth": 2}).search
    assert arm_variants("full", tilted.arms, tilted.variants) == none.model_copy(
        update={"depth": 2}
    )
    assert arm_variants("hft", tilted.arms, tilted.variants) == none
    assert arm_variants("full", both, given) == given
    assert arm_variants("full", one, Variants()) == Variants(averages=0, half_reset=True)
    assert arm_variants("hft", both, given) == none
    assert arm_variants(None, {}, given) == given


@pytest.mark.parametrize(
    ("arms", "told"),
    [
        (["full", "lissa"], "'lissa' is not a known arm; did you mean 'lisa'"),
        ({"mine": {}}, "another arm needs set or space"),
        (["full", "hft", "full"], "full is there several times"),
        (["hft", "averaging"], "of the arm full, which is missing"),
        (["full", "hft", "lisa", "averaging", "half_reset"], None),
        ({"full": {}, "averaging": {"set": {"training.steps": 3}}}, "has no settings"),
        ({"x": {"set": {"selection.rato": 1}}}, "did you mean 'selection.ratio'"),
        ({"x": {"set": {"selection.ratio": 3}}}, "less than or equal to 1"),
        ({"x": {"space": {"selection.rato": [1]}}}, "did you mean 'selection.ratio'"),
        ({"x": {"set": dict.fromkeys(SPACE, 1)}}, "its trials would all be the same"),
        (
            {"x": {"set": {"selection.seed": 1}, "space": {"selection.seed": [1]}}},
            "both sets and searches selection.seed",
        ),
        (
            {"x": {"set": {"arm": "y", "selection.ratio": 1.0}}},
            "not a setting that a trial can have",
        ),
        ([], "at least 1 item"),
    ],
)
def test_wrong_arms_are_refused(arms, told):
    if told is None:
        assert make_config(arms=arms).search.arms.keys() == set(arms)
        return
    with pytest.raises(ConfigError, match=told.replace("'", ".")):
        make_config(arms=arms)


@pytest.mark.parametrize(
    ("search", "told"),
    [
        ({"trials": 10}, "trials 10 is not a multiple of 4"),
        ({"first": [{"selection.ratio": 1.0}]}, "with arms the trials are dealt"),
        ({"variants": {"averages": 0}}, "averaging needs averages"),
        (
            {"arms": ["full", "depth"], "variants": {"depth": 3}},
            "depth can have 2 points of a model here",
        ),
    ],
)
def test_what_does_not_go_with_arms_is_refused(search, told):
    with pytest.raises(ConfigError, match=told):
        make_config(**search)


def test_unequal_combinations_of_one_arm_are_named_by_it():
    with pytest.raises(ConfigError, match=r"search\.arms\.own.*do not fit together"):
        make_config(
            arms={"full": {}, "own": {"set": {"selection.strategy": "weighted"}}},
            trials=2,
            space={"selection.granularity": ["layer", "model"]},
        )
