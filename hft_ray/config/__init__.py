"""FILE: its schema, its errors, and how it is read."""

from hft_ray.config.errors import ConfigError, Problem, nearest
from hft_ray.config.evaluation import (
    Evaluation,
    EvaluationSection,
    Generation,
    MultipleChoice,
    Perplexity,
)
from hft_ray.config.schema import Cluster, Config, Data, Model, Tracking
from hft_ray.config.search import Choices, Interval, Search
from hft_ray.config.selection import Selection, Weights
from hft_ray.config.training import Training

__all__ = [
    "Choices",
    "Cluster",
    "Config",
    "ConfigError",
    "Data",
    "Evaluation",
    "EvaluationSection",
    "Generation",
    "Interval",
    "Model",
    "MultipleChoice",
    "Perplexity",
    "Problem",
    "Search",
    "Selection",
    "Tracking",
    "Training",
    "Weights",
    "nearest",
]
