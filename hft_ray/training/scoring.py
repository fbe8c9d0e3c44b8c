"""The scores of a run as metrics: those of its evaluations, and those of its tasks together."""

from __future__ import annotations

import logging

from torch import nn

from hft_ray.config import Config, ConfigError, Problem
from hft_ray.evaluation import (
    Scores,
    TaskSequence,
    averageable,
    measure_names,
    metric_errors,
    metric_names,
    metric_values,
    mixed_units,
    mixture,
    task_errors,
    task_means,
    unable,
    untrained_measures,
    worst_measures,
    worst_values,
)
from hft_ray.item_scores import ItemScores
from hft_ray.pareto.points import FORECAST
from hft_ray.ranks import Ranks
from hft_ray.training.answers import base_item_scores, item_scores
from hft_ray.training.workspace import Workspace

log = logging.getLogger(__name__)


class Scoring:
    """Scores a run's model, and keeps what it scored after each task.

    Args:
        config: FILE.
        workspace: Where the evaluations are kept.
        ranks: The processes that score together.
        base: Scores of the untouched model.

    Attributes:
        sequence: What was scored after each task; None without a sequence of tasks.
    """

    def __init__(self, config: Config, workspace: Workspace, ranks: Ranks, base: Scores) -> None:
        self._config, self._ranks, self.base = config, ranks, base
        if ranks.main:
            tell_unable(base)
        self._suite = workspace.suite(config.model, config.scored)
        in_turn = config.method.kind == "continual"
        self.sequence = TaskSequence(tasks_of(config), base) if in_turn else None

    def score(self, model: nn.Module) -> Scores:
        """Score the model (a collective)."""
        return self._suite.score(model, self._ranks, self.base)

    def values(self, scores: Scores) -> dict[str, float]:
        """Return the metrics of ``scores`` and their errors."""
        errors = metric_errors(scores, self.base)
        if self._config.tasks:
            errors |= task_errors(tasks_of(self._config), scores)
        return self._metrics(scores, self.base) | errors

    def items(self, scores: Scores) -> ItemScores:
        """Return what ``scores`` say of every item."""
        return item_scores(scores, self.base, self._metrics)

    def _metrics(self, scores: Scores, base: Scores) -> dict[str, float]:
        found = metric_values(scores, base)
        if self._config.tasks:
            found |= task_means(tasks_of(self._config), scores)
        return found | (self.sequence.measures(scores) if self.sequence else {})


def tasks_of(config: Config) -> dict[str, list[str]]:
    """Return the tasks of FILE: name -> names of its evaluations."""
    return {task.name: [each.name for each in task.scored] for task in config.tasks}


def score_names(config: Config) -> list[str]:
    """Return the metrics that a run of FILE has of its scores."""
    of_tasks = [f"task/{task.name}" for task in config.tasks if averageable(task.scored)]
    names = [*metric_names(config.scored), *of_tasks]
    if config.method.kind == "continual":
        names += measure_names(config.scored)
    if config.evaluation.forecast:
        names.append(FORECAST)
    return list(dict.fromkeys(names))


def mixed(config: Config, metric: str) -> str | None:
    """Return why a mean is not a metric of FILE, as ``mixed_units`` does; also means of a task."""
    for task in config.tasks:
        if metric == f"task/{task.name}":
            return mixture(task.scored, f"task/{task.name}.NAME of one evaluation")
    return mixed_units(config.scored, metric)


def tell_unable(base: Scores) -> None:
    """Warn of what the base cannot do, so that it has nothing to retain."""
    for name in unable(base):
        score = base.general[name]
        log.warning(
            "retention/%s is left out: the base scores %.4g and a guess %.4g, "
            "so there is nothing that could be lost",
            *(name, score.value, score.chance),
        )


def refuse_unable(config: Config, base: Scores) -> None:
    """Refuse a FILE that asks for the retention of what the base cannot do.

    Raises:
        ConfigError: An objective or a constraint of FILE is not defined for this base.
    """
    if config.search is None:
        return
    gone = {f"retention/{name}" for name in unable(base)}
    if len(gone) == len(base.general):
        gone.add("retention/mean")
    asked = {f"search.objectives.{name}": name for name in config.search.objectives}
    for index, constraint in enumerate(config.search.bounds):
        asked[f"search.constraints.{index}"] = constraint.metric
    message = "is not defined: the base is not better than a guess; take another metric"
    if problems := [Problem(at, message, name) for at, name in asked.items() if name in gone]:
        raise ConfigError(problems)


def base_values(config: Config, base: Scores) -> dict[str, float]:
    """Return the metrics of the untouched model."""
    found = metric_values(base, base)
    if config.tasks:
        found |= task_means(tasks_of(config), base)
    if config.method.kind == "continual":
        found |= untrained_measures(tasks_of(config), base)
    if config.evaluation.forecast:
        found[FORECAST] = 0.0  # of a divergence from itself
    return found


def base_items(config: Config, base: Scores) -> ItemScores:
    """Return what the untouched model scored on every item."""

    def metrics(scores: Scores, against: Scores) -> dict[str, float]:
        found = metric_values(scores, against)
        return found | (task_means(tasks_of(config), scores) if config.tasks else {})

    return base_item_scores(base, config.scored, metrics)


def worst_of(config: Config, base: Scores) -> dict[str, float]:
    """Return the worst sensible value of every metric, for the hypervolume's reference point."""
    found = worst_values(base)
    if config.tasks:
        found |= task_means(tasks_of(config), base.with_values(lambda score: score.worst))
    if config.method.kind == "continual":
        found |= worst_measures(tasks_of(config), base)
    return found
