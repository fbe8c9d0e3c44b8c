"""The models are Optuna's: what is sorted and proposed otherwise changes no draw."""

from __future__ import annotations

import math

import optuna

from hft_ray.search.models import Gp, Tpe

SETTINGS = ("a", "b", "c")


def draws(sampler, count=30):
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


def test_tpe_draws_what_optunas_does():
    # What Tpe takes over of Optuna's inner names does there what it does here.
    ours, theirs = (
        draws(cls(seed=3, n_startup_trials=10)) for cls in (Tpe, optuna.samplers.TPESampler)
    )
    assert ours == theirs


def test_the_gaussian_process_draws_what_optunas_does():
    ours, theirs = (
        draws(cls(seed=3, n_startup_trials=10), 11) for cls in (Gp, optuna.samplers.GPSampler)
    )
    assert ours == theirs
