"""Optuna's samplers by their name in FILE."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar, assert_never

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState

from hft_ray.config import Search
from hft_ray.config.sections.search import Sampler
from hft_ray.search.bayes.encoding import Searched
from hft_ray.search.bayes.observed import Readings, ends
from hft_ray.search.botorch_sampler import MOST_STARTUP, BotorchSampler

Genetic = TypeVar("Genetic", bound=optuna.samplers.BaseSampler)


class Gp(optuna.samplers.GPSampler):
    """The Gaussian process, over the settings that all complete trials have.

    Optuna looks through each trial once, in the order of their numbers; those of earlier sweeps
    have numbers below 0, and a trial that was stopped looks complete when it can be estimated.
    """

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Return the settings of which a point is proposed, in the order of their names."""
        trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        settings = sorted(trials[0].distributions.items()) if trials else []
        return {
            name: each
            for name, each in settings
            if not each.single() and all(name in other.params for other in trials)
        }


AUTO_TRIALS, AUTO_OBJECTIVES = 1000, 3


def sampler_of(search: Search) -> Sampler:
    """Return the sampler that is used: what ``auto`` stands for, or what was asked for."""
    if search.sampler != "auto":
        return search.sampler
    modelled = search.trials <= AUTO_TRIALS and len(search.objectives) <= AUTO_OBJECTIVES
    return "botorch" if modelled else "tpe"


def in_order(names: Sequence[str], values: Mapping[str, float]) -> list[float] | None:
    """Return the values of all names; None if one is missing."""
    return [values[name] for name in names] if all(name in values for name in names) else None


def make_sampler(
    search: Search,
    finished: int,
    prefix: str = "",
    domain: Sequence[Searched] = (),
    reference: Callable[[], Mapping[str, float]] = dict,
    base: Callable[[], Mapping[str, float]] = dict,
    best: Callable[[], Mapping[str, float]] = dict,
    readings: Readings = ends,
) -> optuna.samplers.BaseSampler:
    """Return the sampler of a sweep.

    Args:
        search: The section of FILE.
        finished: Trials that are finished already. A resumed sweep starts its random numbers anew;
            mixing this in keeps it from drawing once more what it drew first.
        prefix: What keeps the names of an arm's settings apart from those of other arms.
        domain: The settings that are searched, for a sampler that wants to know them beforehand.
        reference: Objective -> worst value that counts for the hypervolume, as far as it is known
            when a point is proposed.
        base: Objective -> value of the untouched model, likewise.
        best: Objective -> value that cannot be surpassed, of those that have one.
        readings: What a complete trial yields, for a sampler that models whole curves.
    """
    seed = search.seed + 1_000_003 * finished
    share = max(5, search.trials // 3)
    # What a model needs to begin with grows with the settings, not with the sweep.
    start, population = min(share, max(10, 3 * len(search.space))), min(share, 50)
    with warnings.catch_warnings():
        # Sobol and Gaussian process sampling are marked experimental in Optuna 5.
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        match sampler_of(search):
            case "tpe":
                # What is under way counts as bad, so that others do not ask for the same.
                return optuna.samplers.TPESampler(
                    seed=seed, n_startup_trials=start, constant_liar=True
                )
            case "tpe_multivariate":
                return optuna.samplers.TPESampler(
                    seed=seed,
                    n_startup_trials=start,
                    multivariate=True,
                    group=True,
                    constant_liar=True,
                    warn_independent_sampling=False,
                )
            case "nsga2":
                return _apart(optuna.samplers.NSGAIISampler, prefix)(
                    seed=seed, population_size=population
                )
            case "nsga3":
                return _apart(optuna.samplers.NSGAIIISampler, prefix)(
                    seed=seed, population_size=population
                )
            case "gp":
                return Gp(seed=seed, n_startup_trials=start, warn_independent_sampling=False)
            case "sobol":
                # The sequence is resumed by Optuna; categorical settings are random.
                return optuna.samplers.QMCSampler(
                    seed=search.seed,
                    scramble=True,
                    independent_sampler=optuna.samplers.RandomSampler(seed=seed),
                    warn_independent_sampling=False,
                )
            case "botorch":
                names = list(search.objectives)
                unbounded = {
                    name: math.inf if direction == "max" else -math.inf
                    for name, direction in search.objectives.items()
                }
                return BotorchSampler(
                    domain,
                    seed=search.seed,
                    startup=min(share, MOST_STARTUP),
                    readings=readings,
                    reference=lambda: in_order(names, reference()),
                    base=lambda: in_order(names, base()),
                    best=lambda: in_order(names, {**unbounded, **best()}),
                )
            case "random":
                return optuna.samplers.RandomSampler(seed=seed)
            case unknown:
                assert_never(unknown)


def _apart(kind: type[Genetic], prefix: str) -> type[Genetic]:
    """Return a genetic sampler's class whose generations are its own.

    Optuna keeps the generations in the study, which all arms share, under the name of the class.
    """
    return type(f"{kind.__name__}:{prefix}", (kind,), {}) if prefix else kind
