"""Optuna's samplers, as a sweep uses them."""

from __future__ import annotations

import math

import optuna
import pytest

from hft_ray.config import Search
from hft_ray.search.samplers import make_sampler

SETTINGS = ("a", "b", "c")


def draws(sampler, count):
    """Run a small study of two objectives, in which one setting is a choice; return its draws."""
    study = optuna.create_study(directions=["minimize", "maximize"], sampler=sampler)

    def objective(trial):
        a = trial.suggest_float("a", 1e-4, 1.0, log=True)
        b = trial.suggest_categorical("b", ["x", "y", "z"])
        c = trial.suggest_int("c", 0, 50)
        trial.set_constraint("few", c - 40)
        return a + c / 50, math.sin(9 * a) - (b == "y")

    study.optimize(objective, n_trials=count)
    return [[trial.params[name] for name in SETTINGS] for trial in study.trials]


def searched(sampler):
    """Return a search whose sampler begins with 10 random trials, of seed 3."""
    space = {name: {"low": 0.1, "high": 1.0} for name in ("training.l2_to_base",)}
    objectives = {"task/score": "max", "forgetting/mean": "min"}
    return Search(sampler=sampler, seed=3, trials=30, space=space, objectives=objectives)


def test_the_gaussian_process_draws_what_optunas_does():
    theirs = optuna.samplers.GPSampler(seed=3, n_startup_trials=10)
    assert draws(make_sampler(searched("gp"), 0), 11) == draws(theirs, 11)


@pytest.mark.parametrize("sampler", ["nsga2", "nsga3"])
def test_generations_of_two_arms_stay_apart(sampler):
    """Both arms' samplers keep their generations in the one study that they share."""
    study = optuna.create_study(directions=["minimize", "minimize"])
    for arm in ("left", "right"):
        search = searched(sampler).model_copy(update={"trials": 15})
        study.sampler = make_sampler(search, 0, f"{arm}/")
        for _ in range(12):
            trial = study.ask()
            x = trial.suggest_float(f"{arm}/x", 0, 1)
            study.tell(trial, [x, 1 - x])
    kept = [name for trial in study.trials for name in trial.system_attrs if "generation" in name]
    assert {name.partition(":")[2] for name in kept} == {"left/:generation", "right/:generation"}
