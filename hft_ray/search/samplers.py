"""Optuna's samplers by their name in FILE."""

from __future__ import annotations

import warnings

import optuna

from hft_ray.config import Search
from hft_ray.search.models import Gp, Tpe


def make_sampler(search: Search, finished: int) -> optuna.samplers.BaseSampler:
    """Return the sampler of a sweep.

    Args:
        search: The section of FILE.
        finished: Trials that are finished already. A resumed sweep starts its random numbers anew;
            mixing this in keeps it from drawing once more what it drew first.
    """
    seed = search.seed + 1_000_003 * finished
    share = max(5, search.trials // 3)
    # What a model needs to begin with grows with the settings, not with the sweep.
    start, population = min(share, max(10, 3 * len(search.space))), min(share, 50)
    with warnings.catch_warnings():
        # Sobol and Gaussian process sampling are marked experimental in Optuna 5.
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        match search.sampler:
            case "tpe":
                return Tpe(seed=seed, n_startup_trials=start)
            case "tpe_multivariate":
                return optuna.samplers.TPESampler(
                    seed=seed,
                    n_startup_trials=start,
                    multivariate=True,
                    group=True,
                    # What is under way counts as bad, so that others do not ask for the same.
                    constant_liar=True,
                    warn_independent_sampling=False,
                )
            case "nsga2":
                return optuna.samplers.NSGAIISampler(seed=seed, population_size=population)
            case "nsga3":
                return optuna.samplers.NSGAIIISampler(seed=seed, population_size=population)
            case "gp":
                return Gp(seed=seed, n_startup_trials=start, warn_independent_sampling=False)
            case "sobol":
                # The sequence goes on where it stopped by itself; what is no number is random.
                return optuna.samplers.QMCSampler(
                    seed=search.seed,
                    scramble=True,
                    independent_sampler=optuna.samplers.RandomSampler(seed=seed),
                    warn_independent_sampling=False,
                )
            case "random":
                return optuna.samplers.RandomSampler(seed=seed)
