"""The model-based sampler: what it learns, and what must not matter to it."""

from __future__ import annotations

import math

import numpy as np
import optuna
import pytest
import torch
from botorch.acquisition.multi_objective.analytic import ExpectedHypervolumeImprovement
from botorch.utils.multi_objective.box_decompositions.non_dominated import (
    FastNondominatedPartitioning,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState, create_trial

from hft_ray.config.load import validate
from hft_ray.search import Study
from hft_ray.search.bayes.acquisition import Gain
from hft_ray.search.bayes.encoding import Condition, Encoding, Searched, key
from hft_ray.search.bayes.observed import standardised
from hft_ray.search.bayes.processes import Prediction, fitted
from hft_ray.search.botorch_sampler import BotorchSampler
from hft_ray.search.samplers import make_sampler

REALS = [Searched(name, FloatDistribution(0, 1)) for name in "xyz"]
NAMES = [Searched(name, CategoricalDistribution(["p", "q", "r"])) for name in "ab"]
WITH_ADAPTER = [
    Searched("kind", CategoricalDistribution(["none", "lora", None])),
    Searched(
        "rank", IntDistribution(2, 64, log=True), (Condition("kind", lambda kind: kind == "lora"),)
    ),
    Searched("ratio", FloatDistribution(0.1, 1), (Condition("kind", lambda kind: kind == "none"),)),
    Searched("rate", FloatDistribution(1e-5, 1e-2, log=True)),
]


def front(params):
    """Two objectives in conflict along x; the other settings should be in the middle."""
    off = sum((params.get(name, 0.5) - 0.5) ** 2 for name in "yz")
    return [params["x"] + off, 1 - math.sqrt(params["x"]) + off]


def suggest(trial, searched):
    for each in searched:
        ends = each.distribution
        match ends:
            case FloatDistribution():
                trial.suggest_float(each.name, ends.low, ends.high, log=ends.log)
            case IntDistribution():
                trial.suggest_int(each.name, ends.low, ends.high, log=ends.log)
            case _:
                trial.suggest_categorical(each.name, ends.choices)
    return trial.params


def drawn(searched, count, values, directions=("minimize", "minimize"), seed=0):
    """Return a study of random trials."""
    study = optuna.create_study(directions=directions)
    encoding = Encoding(searched)
    rng = np.random.default_rng(seed)
    for point in encoding.draw(rng.random((count, len(searched)))):
        params = encoding.params(point)
        distributions = {name: encoding.distributions[name] for name in params}
        study.add_trial(
            create_trial(params=params, distributions=distributions, values=values(params))
        )
    return study


def proposed(study, searched, **more):
    """Return what the sampler proposes next."""
    sampler = BotorchSampler(searched, seed=3, **more)
    trial = study.ask()
    frozen = study.trials[trial.number]
    study.tell(trial, state=TrialState.FAIL)
    return sampler.sample_relative(study, frozen, {})


def run(searched, values, count, *, running=1, directions=("minimize", "minimize"), **more):
    """Run a study in which so many trials are under way; return it."""
    study = optuna.create_study(
        directions=directions, sampler=BotorchSampler(searched, seed=3, **more)
    )
    waiting = []
    for _ in range(count):
        trial = study.ask()
        suggest(trial, searched)
        waiting.append(trial)
        if len(waiting) == running:
            first = waiting.pop(0)
            study.tell(first, values(first.params), skip_if_finished=True)
    return study


@pytest.mark.parametrize("change", ["order", "scale", "sign"])
def test_order_scale_and_sign_of_the_objectives_change_nothing(change):
    ways = {
        "order": (lambda v: v[::-1], ("minimize", "minimize")),
        "scale": (lambda v: [1024 * v[0] - 5, v[1] / 8 + 3], ("minimize", "minimize")),
        "sign": (lambda v: [-v[0], v[1]], ("maximize", "minimize")),
    }
    changed, directions = ways[change]
    one = proposed(drawn(REALS, 14, front), REALS)
    other = proposed(drawn(REALS, 14, lambda p: changed(front(p)), directions), REALS)
    assert other == pytest.approx(one, abs=1e-3)


def test_the_same_seed_proposes_the_same():
    one, other = (proposed(drawn(REALS, 14, front), REALS) for _ in range(2))
    assert one == other


def test_it_finds_the_front_in_fewer_trials_than_a_random_search():
    study = run(REALS, front, 18, running=4, startup=8)
    off = [abs(t.params["y"] - 0.5) + abs(t.params["z"] - 0.5) for t in study.trials[12:]]
    assert np.median(off) < 0.25  # by chance 0.5


def test_constraints_are_learned():
    searched = REALS[:1]
    study = optuna.create_study(direction="maximize", sampler=BotorchSampler(searched, seed=0))
    for _ in range(16):
        trial = study.ask()
        x = trial.suggest_float("x", 0, 1)
        trial.set_constraint("small", 100 * (x - 0.6))
        study.tell(trial, x)
    late = [trial.params["x"] for trial in study.trials[8:]]
    assert max(x for x in late if x <= 0.6) > 0.58
    assert sum(x <= 0.62 for x in late) >= 4


def test_without_a_feasible_trial_it_looks_for_one():
    study = optuna.create_study(directions=["minimize"] * 2, sampler=BotorchSampler(REALS[:2]))
    for _ in range(14):
        trial = study.ask()
        params = suggest(trial, REALS[:2])
        trial.set_constraint("far", math.hypot(params["x"] - 0.9, params["y"] - 0.1) - 0.08)
        study.tell(trial, [params["x"], params["y"]])
    assert any(trial.constraints["far"] <= 0 for trial in study.trials)


def test_where_the_memory_ran_out_nothing_more_is_tried():
    searched = REALS[:1]
    study = optuna.create_study(direction="maximize", sampler=BotorchSampler(searched))
    for _ in range(12):
        trial = study.ask()
        x = trial.suggest_float("x", 0, 1)
        if x > 0.5:
            trial.set_constraint("out_of_memory", 1.0)
            study.tell(trial, state=TrialState.PRUNED)
        else:
            study.tell(trial, x)
    tried = [trial.params["x"] for trial in study.trials[4:]]
    assert sum(x > 0.65 for x in tried) <= 5  # without the constraint all of them
    assert max(x for x in tried if x <= 0.5) > 0.4


@pytest.mark.parametrize("objectives", [1, 2, 3])
def test_every_point_of_a_space_of_names_is_tried_once(objectives):
    def values(params):
        return [float(params["a"] == "q"), float(params["b"] == "r"), 1.0][:objectives]

    study = run(NAMES, values, 10, running=2, directions=["maximize"] * objectives)
    tried = [tuple(sorted(trial.params.items())) for trial in study.trials]
    assert len(set(tried[:9])) == 9
    assert tried[9] in tried[:9]


@pytest.mark.parametrize("values", [lambda p: [1.0, 2.0], lambda p: [p["x"], 2.0]])
def test_objectives_that_are_constant_do_no_harm(values):
    study = run(REALS, values, 11)
    assert len({trial.params["x"] for trial in study.trials}) >= 9


def test_one_setting_alone():
    study = run(REALS[:1], lambda p: [abs(p["x"] - 0.3)], 10, directions=["minimize"])
    assert study.best_value < 0.01


def test_what_failed_is_not_tried_again():
    searched = [REALS[0], Searched("n", IntDistribution(1, 4))]
    study = optuna.create_study(directions=["minimize"] * 2, sampler=BotorchSampler(searched))
    for _ in range(12):
        trial = study.ask()
        x, n = suggest(trial, searched).values()
        study.tell(trial, [math.nan, 0.0] if n == 2 else [x, -n], skip_if_finished=True)
    failed = [t.params["x"] for t in study.trials if t.state == TrialState.FAIL]
    assert 1 <= len(failed) == len(set(failed))


@pytest.mark.parametrize("count", [0, 1])
def test_with_next_to_no_trials_it_spreads(count):
    assert proposed(drawn(REALS, count, front), REALS, startup=0).keys() == set("xyz")


def test_trials_under_way_are_kept_apart():
    study = run(REALS, front, 16, running=8, startup=6)
    points = np.array([[t.params[name] for name in "xyz"] for t in study.trials[8:]])
    apart = np.abs(points[:, None] - points).max(-1) + np.eye(len(points))
    assert apart.min() > 1e-3


def test_a_value_far_off_does_not_hide_the_others():
    values = np.array([[-1e12], [1.0], [2.0], [3.0], [2.5]])
    scaled = standardised(values).values
    assert np.ptp(scaled[1:]) > 0.1


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0, 0.999), min_size=4, max_size=4))
def test_a_setting_that_does_not_exist_is_left_out(uniform):
    encoding = Encoding(WITH_ADAPTER)
    [point] = encoding.draw(np.array([uniform]))
    params = encoding.params(point)
    wanted = {"none": {"ratio"}, "lora": {"rank"}, None: set()}[params["kind"]]
    assert params.keys() == {"kind", "rate"} | wanted
    # Refuses a value that its distribution does not have.
    distributions = {name: encoding.distributions[name] for name in params}
    create_trial(value=0.0, params=params, distributions=distributions)
    # What a model sees lies in the unit cube, and a point is known again by its settings.
    assert key(encoding.point(params)) == key(point)
    features = encoding.features(point[None])
    assert features.shape == (1, encoding.width)
    assert ((features >= 0) & (features <= 1)).all()
    # Another value of what does not exist is no other point.
    assert key(encoding.point({"rank": 2, "ratio": 0.1, **params})) == key(point)


def test_a_trial_from_another_space_is_left_out():
    encoding = Encoding(WITH_ADAPTER)
    assert encoding.point({"kind": "lora", "rate": 1e-3}) is None
    assert encoding.point({"kind": "prefix", "rate": 1e-3}) is None
    assert encoding.point({"kind": "lora", "rate": 1e-3, "rank": 128}) is None


def test_choices_that_are_numbers_have_an_order():
    numbers = Encoding([Searched("rank", CategoricalDistribution([16, 4, 8]))])
    seen = [numbers.features(numbers.point({"rank": n})[None])[0, 0] for n in (4, 8, 16)]
    assert seen == sorted(seen)
    assert Encoding([Searched("on", CategoricalDistribution([True, False, None]))]).width == 3


def study_with_adapter(tmp_path, trials):
    raw = {
        "name": "s",
        "model": "m",
        "data": {"train": "t.jsonl"},
        "search": {
            "space": {
                "adapter.kind": ["none", "lora"],
                "adapter.rank": {
                    "low": 2,
                    "high": 64,
                    "log": True,
                    "when": {"adapter.kind": "lora"},
                },
                "selection.ratio": {"low": 0.1, "high": 0.9, "when": {"adapter.kind": "none"}},
                "training.learning_rate": {"low": 1e-5, "high": 1e-2, "log": True},
            },
            "trials": trials,
            "sampler": "botorch",
        },
    }
    return Study(validate(raw, "FILE"), tmp_path / "search.jsonl")


def test_a_space_with_conditions_is_searched_by_the_model(tmp_path):
    """Both kinds are tried, and the learning rate goes where both objectives are better."""
    study = study_with_adapter(tmp_path, 24)
    rates = []
    while (known := study.next_trial()) is not None:
        lora = known.params.get("adapter.kind") == "lora"
        assert ("adapter.rank" in known.params) == lora
        off = abs(math.log10(known.params["training.learning_rate"]) + 3)
        share = known.params["adapter.rank"] / 64 if lora else known.params["selection.ratio"]
        values = {"task/score": share - off, "forgetting/mean": share + off + 0.1 * lora}
        study.tell(known.trial, {"state": "complete", "step": 1, "values": values})
        rates.append(off)
    assert np.median(rates[14:]) < 0.25  # by chance 0.75


def test_the_gain_is_that_of_botorch():
    torch.manual_seed(0)
    x = np.random.default_rng(0).random((12, 2))
    y = np.stack([x.sum(1), (x[:, 0] - x[:, 1]) ** 2], 1)
    y = (y - y.mean(0)) / y.std(0)
    model, _ = fitted(x, y, None)
    reference, tests = y.min(0), torch.rand(50, 1, 2, dtype=torch.double)
    boxes = FastNondominatedPartitioning(torch.as_tensor(reference), torch.as_tensor(y))
    theirs = ExpectedHypervolumeImprovement(model, reference.tolist(), boxes)(tests)
    ours = Gain(Prediction(model), y, reference)(tests).exp()
    assert ours.detach().numpy() == pytest.approx(theirs.detach().numpy(), rel=1e-4, abs=1e-12)


def test_a_gain_ends_where_a_value_cannot_be_surpassed():
    """At the best point the gain is that of the room below the limit, by integration."""
    x = np.linspace(0, 1, 6)[:, None]
    model, _ = fitted(x, np.sin(4 * x), None)
    prediction, front, at = Prediction(model), np.array([[0.5]]), torch.tensor([[[0.5]]])
    mean, variance = (each.item() for each in prediction(at.double().squeeze(1)))
    draws = np.random.default_rng(0).normal(mean, variance**0.5, 400_000)
    for limit in (0.8, np.inf):
        gain = Gain(prediction, front, np.array([-2.0]), np.array([limit]))(at.double()).exp()
        expected = np.clip(np.minimum(draws, limit) - 0.5, 0, None).mean()
        assert gain.item() == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("outputs", [1, 2])
def test_a_prediction_is_that_of_gpytorch(outputs):
    rng = np.random.default_rng(0)
    model, _ = fitted(rng.random((9, 2)), rng.normal(size=(9, outputs)), None)
    tests = torch.rand(5, 2, dtype=torch.double)
    mean, variance = Prediction(model)(tests)
    theirs = model.posterior(tests)
    assert torch.allclose(mean, theirs.mean, atol=1e-6)
    assert torch.allclose(variance, theirs.variance, atol=1e-6)


def test_the_reference_point_is_asked_for_at_each_proposal():
    """It is known once the base is scored, which is after the sampler is made."""
    ratio = {"selection.ratio": {"low": 0.1, "high": 1.0}}
    file = {"name": "s", "model": "m", "data": {"train": "t.jsonl"}}
    search = validate({**file, "search": {"space": ratio, "sampler": "botorch"}}, "FILE").search
    settings_of = {"selection.ratio": FloatDistribution(0.1, 1.0)}
    asked = []

    def reference():
        asked.append(len(study.trials))
        return {"task/score": 0.0, "forgetting/mean": 1.0}

    domain = [Searched(name, each) for name, each in settings_of.items()]
    sampler = make_sampler(search, 0, domain=domain, reference=reference)
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)
    for _ in range(6):
        trial = study.ask(settings_of)
        study.tell(trial, [trial.params["selection.ratio"], trial.params["selection.ratio"] ** 2])
    assert asked == [5, 6]


def test_after_hundreds_of_trials_the_front_is_known():
    study = drawn(REALS, 500, front)
    point = proposed(study, REALS)
    assert point not in [each.params for each in study.trials]
    assert max(abs(point["y"] - 0.5), abs(point["z"] - 0.5)) < 0.1


def test_what_botorch_warns_of_is_not_shown(recwarn):
    study = drawn(REALS, 12, lambda params: [round(x, 1) for x in front(params)])
    for seed in range(3):
        BotorchSampler(REALS, seed=seed).propose(study, 12)
    assert not [each for each in recwarn if "Optimization" in type(each.message).__name__]
