"""How long a trial takes on this machine, from a few real steps."""

from __future__ import annotations

import itertools
import statistics
import time
from dataclasses import dataclass

from hft_ray.config import Config, ConfigError, Problem
from hft_ray.config.keys import with_settings
from hft_ray.training.methods import make_stages
from hft_ray.training.run import run
from hft_ray.training.workspace import Workspace

STEPS = 8
"""Steps of a probe."""
FIRST = 2
"""The first steps, which start what stays, are not counted."""


@dataclass(frozen=True)
class Probe:
    """What a probe measured.

    Attributes:
        step_seconds: Median wall time of a step.
        score_seconds: Wall time of one evaluation.
        trial_seconds: Wall time of a trial: its steps and evaluations.
    """

    step_seconds: float
    score_seconds: float
    trial_seconds: float


def probe(config: Config, workspace: Workspace) -> Probe:
    """Train a few steps, evaluate once, and tell the time of a whole trial from it.

    Nothing is kept but the base model's scores, which a sweep needs as well. One process stands for
    one of ``cluster.workers``: it takes its share of each batch, and does not wait for others.

    Args:
        config: FILE with the settings of a trial; checked.
        workspace: Where to run; of one rank.

    Raises:
        ConfigError: The training is too short to be timed.
        TrainingError: The loss is not finite.
    """
    stages = make_stages(config, workspace)
    steps, variants = sum(stage.steps for stage in stages), 0
    if config.search is not None:
        variants = config.search.variants.scorings
    every = config.evaluation.every
    scorings = len(stages) + (0 if every is None else (steps - 1) // every) + variants
    settings = {
        "training.batch_size": max(1, config.training.batch_size // config.cluster.workers),
        "training.log_every": 1,
        "training.checkpoint_every": None,
        "evaluation.every": STEPS,
        "cluster.workers": 1,
    }
    one = with_settings(config.model_copy(update={"search": None}), settings)
    times: list[float] = []
    scored: list[int] = []

    def report(step: int, metrics: dict[str, float], is_scored: bool, last: bool) -> bool:
        times.append(time.monotonic())
        if is_scored:
            scored.append(len(times) - 1)
        return is_scored

    if (first := stages[0].steps) <= FIRST:
        message = f"a probe needs more than {FIRST} steps before the first evaluation"
        raise ConfigError(Problem("training.steps", message, first))
    run(one, workspace, report)
    taken = [after - before for before, after in itertools.pairwise(times)]
    plain = [seconds for place, seconds in enumerate(taken, start=1) if place not in scored]
    # The first report, from which the others are timed, is already that of a step.
    step_seconds = statistics.median(plain[FIRST - 1 :] or plain)
    score_seconds = max(0.0, taken[scored[0] - 1] - step_seconds)
    return Probe(step_seconds, score_seconds, steps * step_seconds + scorings * score_seconds)
