"""Scores models on FILE's evaluations, with standard errors, and compares them with the base.

``Suite`` scores one model after another; ``metric_values`` names the results.
"""

from hft_ray.evaluation.check import check_evaluation, files_of
from hft_ray.evaluation.forgetting import Difference, forgetting, mean_forgetting
from hft_ray.evaluation.harness import known_harness
from hft_ray.evaluation.items import Items, load_items
from hft_ray.evaluation.metrics import (
    best_values,
    metric_errors,
    metric_estimates,
    metric_names,
    metric_values,
    worst_values,
)
from hft_ray.evaluation.retention import (
    Retention,
    mean_retention,
    retained,
    retention,
    share_left,
    unable,
)
from hft_ray.evaluation.score import Estimate, Score, Scores
from hft_ray.evaluation.score_cache import BaseScores, evaluation_identity
from hft_ray.evaluation.sequence import (
    TaskSequence,
    measure_names,
    task_errors,
    task_means,
    untrained_measures,
    worst_measures,
)
from hft_ray.evaluation.sharding import context_length
from hft_ray.evaluation.suite import Suite, make_scorer
from hft_ray.evaluation.units import averageable, mixed_units, mixture, unit

__all__ = [
    "BaseScores",
    "Difference",
    "Estimate",
    "Items",
    "Retention",
    "Score",
    "Scores",
    "Suite",
    "TaskSequence",
    "averageable",
    "best_values",
    "check_evaluation",
    "context_length",
    "evaluation_identity",
    "files_of",
    "forgetting",
    "known_harness",
    "load_items",
    "make_scorer",
    "mean_forgetting",
    "mean_retention",
    "measure_names",
    "metric_errors",
    "metric_estimates",
    "metric_names",
    "metric_values",
    "mixed_units",
    "mixture",
    "retained",
    "retention",
    "share_left",
    "task_errors",
    "task_means",
    "unable",
    "unit",
    "untrained_measures",
    "worst_measures",
    "worst_values",
]
