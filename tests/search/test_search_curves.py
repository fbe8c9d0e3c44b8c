"""Averages of a trained model as results of its trial: recorded, simulated, learned from."""

from __future__ import annotations

import json

import numpy as np
import optuna
import pytest
import torch
from botorch.acquisition import AcquisitionFunction
from optuna.distributions import FloatDistribution

from hft_ray.config import ConfigError
from hft_ray.config.load import validate
from hft_ray.search import Study
from hft_ray.search.bayes.acquisition import AlongCurve
from hft_ray.search.bayes.encoding import Searched
from hft_ray.search.bayes.observed import Reading, ends
from hft_ray.search.botorch_sampler import BotorchSampler
from hft_ray.search.simulate import scored_variants, simulate
from hft_ray.search.stopping_criteria import StoppingCriteria
from hft_ray.search.table import read_table
from hft_ray.search.trial_snapshot import TrialSnapshot

RAW = {
    "name": "s",
    "model": "m",
    "data": {"train": "d.jsonl"},
    "training": {"steps": 20},
    "search": {"space": {"selection.ratio": {"low": 0.1, "high": 1.0}}, "trials": 6},
    "cluster": {"groups": 2},
}
EIGHTHS = [n / 8 for n in range(1, 8)]


def make_config(**search):
    return validate({**RAW, "search": {**RAW["search"], **search}}, "FILE")


def scores(task, lost):
    return {"task/score": task, "forgetting/mean": lost}


def rows(ratio, seed=0, shift=0.0):
    """A training of 20 seconds and seven averages of a second each."""
    params = {"selection.ratio": ratio, "training.seed": seed}
    yield {"params": params, "step": 10, "metrics": scores(ratio / 2, 0.1), "seconds": 10.0}
    yield {"params": params, "step": 20, "metrics": scores(ratio + shift, 0.8), "seconds": 20.0}
    for number, alpha in enumerate(EIGHTHS, start=1):
        metrics = scores(ratio * alpha + shift, 0.8 * alpha**3)
        name = {"variant": f"alpha-{alpha}"}
        yield {"params": params, "step": 20, **name, "metrics": metrics, "seconds": 20.0 + number}


@pytest.fixture
def table(tmp_path):
    base = {"params": {}, "step": 0, "metrics": scores(0.0, 0.0), "seconds": 0}
    lines = [base, *rows(0.5), *rows(1.0), *rows(0.5, seed=1, shift=0.2)]
    path = tmp_path / "table.jsonl"
    path.write_text("".join(json.dumps(each) + "\n" for each in lines), encoding="utf-8")
    return path


def test_a_table_keeps_the_variants_of_each_training(table):
    curve = read_table(table, make_config()).curve("t0000", {"selection.ratio": 0.98})
    assert [each.step for each in curve] == [10, 20]
    assert list(curve[-1].variants) == [f"alpha-{alpha}" for alpha in EIGHTHS]
    assert curve[-1].variants["alpha-0.5"].metrics == scores(0.5, 0.1)
    assert {each.seconds for each in curve[-1].variants.values()} == {1.0}


def test_a_table_hands_out_all_its_trainings(table):
    read = read_table(table, make_config())
    assert [params["selection.ratio"] for params, _ in read.trainings].count(0.5) == 2
    assert all(curve[-1].variants for _, curve in read.trainings)


def test_a_variant_without_its_model_is_refused(tmp_path):
    path = tmp_path / "table.jsonl"
    lines = list(rows(0.5))
    path.write_text(json.dumps(lines[0]) + "\n" + json.dumps(lines[2]) + "\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="a variant follows the row of its model"):
        read_table(path, make_config())


@pytest.mark.parametrize(
    ("averages", "names", "seconds"),
    [
        (0, [], 0.0),
        (1, ["alpha-0.5"], 1.0),
        # The wider half of the curve is that above 0.5: it bends there.
        (2, ["alpha-0.5", "alpha-0.75"], 2.0),
        ([0.2, 0.9], ["alpha-0.25", "alpha-0.875"], 2.0),
    ],
)
def test_a_simulated_trial_scores_what_a_real_one_would(table, averages, names, seconds):
    config = make_config(variants={"averages": averages})
    read = read_table(table, config)
    curve = read.curve("t0000", {"selection.ratio": 1.0})
    found, took = scored_variants(config.search, curve, read.base)
    assert [each["variant"] for each in found] == names
    assert took == seconds


@pytest.mark.parametrize(
    ("depth", "made"),
    [
        (0, []),
        (1, ["depth-0.75,-0.5"]),
        (5, ["depth-0.75,-0.5", "depth-0.25,0.5"]),
        ([[1.0, -0.9]], ["depth-0.75,-0.5"]),
    ],
)
def test_a_simulated_trial_scores_averages_by_depth(tmp_path, depth, made):
    base = {"params": {}, "step": 0, "metrics": scores(0.0, 0.0), "seconds": 0}
    lines = [base, *rows(1.0)]
    for number, name in enumerate(["depth-0.75,-0.5", "depth-0.25,0.5"], start=1):
        given = {"variant": name, "metrics": scores(0.5, 0.05 * number), "seconds": 27.0 + number}
        lines.append(lines[-1] | given)
    path = tmp_path / "table.jsonl"
    path.write_text("".join(json.dumps(each) + "\n" for each in lines), encoding="utf-8")
    config = make_config(variants={"averages": 1, "half_reset": False, "depth": depth})
    read = read_table(path, config)
    found, took = scored_variants(config.search, read.trainings[0][1], read.base)
    assert [each["variant"] for each in found] == ["alpha-0.5", *made]
    assert took == 1.0 + len(made)


def test_variants_take_their_time_and_are_told(table, tmp_path):
    config = make_config(variants={"averages": 3})
    read = read_table(table, config)
    study = Study(config, tmp_path / "search.jsonl")
    ended = [e for e in simulate(study, read, 1, base=read.base) if e.kind == "finished"]
    assert [each.time for each in ended] == [23.0 * n for n in range(1, 7)]
    assert all(len(each.details["variants"]) == 3 for each in ended)
    assert all(each.result["seconds"] == 23.0 for each in study.trials())


class Values(AcquisitionFunction):
    def __init__(self):
        super().__init__(model=torch.nn.Module())

    def forward(self, X):
        return X.squeeze(1).sum(dim=-1).log()


def test_the_worth_of_a_curve_is_the_sum_over_its_positions():
    worth = AlongCurve(Values(), np.array([1.0, 0.5, 0.25]))
    x = torch.tensor([[[0.2, 0.4]], [[0.9, 0.0]]], dtype=torch.double)
    expected = torch.tensor([3 * 0.6 + 1.75, 3 * 0.9 + 1.75], dtype=torch.double)
    torch.testing.assert_close(worth(x).exp(), expected)


def test_what_only_averages_show_is_found():
    """The trained models are all alike; how good the averages are depends on x."""
    searched = [Searched("x", FloatDistribution(0, 1))]

    def curve(x):
        return [((x - 0.7) ** 2 + 0.2 * alpha, 1.0 - 0.3 * alpha) for alpha in (0.25, 0.5)]

    def readings(trial):
        own = zip((0.25, 0.5), curve(trial.params["x"]), strict=True)
        return [*ends(trial), *(Reading(values, {}, alpha) for alpha, values in own)]

    sampler = BotorchSampler(searched, seed=1, startup=5, readings=readings)
    study = optuna.create_study(directions=["minimize"] * 2, sampler=sampler)
    for _ in range(9):
        trial = study.ask()
        trial.suggest_float("x", 0, 1)
        study.tell(trial, [1.0, 0.65])
    late = [trial.params["x"] for trial in study.trials[6:]]
    assert np.abs(np.array(late) - 0.7).min() < 0.03


def test_a_plateau_counts_what_averages_add():
    config = make_config(plateau={"trials": 1, "share": 0.05})

    def ended(number, *variants):
        made = [{"variant": "alpha-0.5", "values": each} for each in variants]
        result = {"values": scores(0.5, 0.5), "variants": made}
        return TrialSnapshot(f"t000{number}", "complete", {}, result, feasible=True)

    def violations(values):
        return {"forgetting": values["forgetting/mean"] - 0.6}

    def plateau(last):
        criteria = StoppingCriteria(config.search, config.cluster, 0.0, violations)
        criteria.reference = scores(0.0, 1.0)
        criteria.update([ended(0), ended(1), last])
        return criteria.plateau

    assert plateau(ended(2)) is not None
    assert plateau(ended(2, scores(0.5, 0.2))) is None
    assert plateau(ended(2, scores(0.9, 0.7))) is not None  # it violates the constraint
