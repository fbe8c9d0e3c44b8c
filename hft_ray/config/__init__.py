"""FILE: its schema, its errors, and how it is read."""

from hft_ray.config.adapter import Adapter
from hft_ray.config.constraints import STDERR, Constraint, Preference
from hft_ray.config.data import Data
from hft_ray.config.errors import ConfigError, Problem, check_all, nearest
from hft_ray.config.evaluation import (
    Divergence,
    Evaluation,
    EvaluationSection,
    Generation,
    LmEval,
    MultipleChoice,
    OnRecords,
    PairPreference,
    Perplexity,
)
from hft_ray.config.method import Method, Replay
from hft_ray.config.schema import Cluster, Config, Model, Tracking
from hft_ray.config.search import Scheduler, Search
from hft_ray.config.selection import Selection, Weights
from hft_ray.config.space import Choices, Interval
from hft_ray.config.stages import Preferences, StageEntry
from hft_ray.config.tasks import Task, TaskData
from hft_ray.config.training import Training
from hft_ray.config.variants import Variants

__all__ = [
    "STDERR",
    "Adapter",
    "Choices",
    "Cluster",
    "Config",
    "ConfigError",
    "Constraint",
    "Data",
    "Divergence",
    "Evaluation",
    "EvaluationSection",
    "Generation",
    "Interval",
    "LmEval",
    "Method",
    "Model",
    "MultipleChoice",
    "OnRecords",
    "PairPreference",
    "Perplexity",
    "Preference",
    "Preferences",
    "Problem",
    "Replay",
    "Scheduler",
    "Search",
    "Selection",
    "StageEntry",
    "Task",
    "TaskData",
    "Tracking",
    "Training",
    "Variants",
    "Weights",
    "check_all",
    "nearest",
]
