"""FILE: its schema, its errors, and how it is read."""

from hft_ray.config.errors import ConfigError, Problem, check_all, nearest, problems_of
from hft_ray.config.schema import Config
from hft_ray.config.sections.adapter import Adapter
from hft_ray.config.sections.cluster import Cluster
from hft_ray.config.sections.constraints import STDERR, Constraint, Preference
from hft_ray.config.sections.data import Data
from hft_ray.config.sections.evaluation import (
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
from hft_ray.config.sections.method import Method, Replay
from hft_ray.config.sections.model import Model
from hft_ray.config.sections.search import Scheduler, Search
from hft_ray.config.sections.selection import Selection, Weights
from hft_ray.config.sections.space import Choices, Interval
from hft_ray.config.sections.stages import Preferences, StageEntry
from hft_ray.config.sections.tasks import Task, TaskData
from hft_ray.config.sections.tracking import Tracking
from hft_ray.config.sections.training import Training
from hft_ray.config.sections.variants import Variants

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
    "problems_of",
]
