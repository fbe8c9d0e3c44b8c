"""FILE: its schema, its errors, and how it is read."""

from hft_ray.config.errors import ConfigError, Problem, nearest
from hft_ray.config.schema import (
    Choices,
    Cluster,
    Config,
    Data,
    Evaluation,
    EvaluationSection,
    Generation,
    Interval,
    Model,
    MultipleChoice,
    Perplexity,
    Search,
    Selection,
    Tracking,
    Training,
)

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
    "nearest",
]
