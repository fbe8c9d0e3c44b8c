"""The scores of a run as metrics: those of its evaluations, and those of its tasks together."""

from __future__ import annotations

from torch import nn

from hft_ray.config import Config
from hft_ray.evaluation import (
    Scores,
    TaskSequence,
    measure_names,
    metric_errors,
    metric_names,
    metric_values,
    task_means,
    untrained_measures,
    worst_measures,
    worst_values,
)
from hft_ray.evaluation.item_scores import ItemScores
from hft_ray.ranks import Ranks
from hft_ray.training.answers import base_item_scores, item_scores
from hft_ray.training.workspace import Workspace


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
        self._suite = workspace.suite(config.model, config.scored)
        in_turn = config.method.kind == "continual"
        self.sequence = TaskSequence(tasks_of(config), base) if in_turn else None

    def score(self, model: nn.Module) -> Scores:
        """Score the model (a collective)."""
        return self._suite.score(model, self._ranks, self.base)

    def values(self, scores: Scores) -> dict[str, float]:
        """Return the metrics of ``scores`` and their errors."""
        return self._metrics(scores, self.base) | metric_errors(scores, self.base)

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
    names = [*metric_names(config.scored), *(f"task/{task.name}" for task in config.tasks)]
    if config.method.kind == "continual":
        names += measure_names(general=bool(config.evaluation.general))
    return list(dict.fromkeys(names))


def base_values(config: Config, base: Scores) -> dict[str, float]:
    """Return the metrics of the untouched model."""
    found = metric_values(base, base)
    if config.tasks:
        found |= task_means(tasks_of(config), base)
    if config.method.kind == "continual":
        found |= untrained_measures(tasks_of(config), base)
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
