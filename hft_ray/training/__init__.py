"""Fine-tuning one model with DeepSpeed: models, engine, run, export.

Knows neither Ray nor MLflow. Importing this package does not import DeepSpeed; its modules that
train do (``run``, ``base``, ``engine``).
"""

import os

import torch

# DeepSpeed looks at this when it is imported, and warns about a missing GPU if it is not set.
os.environ.setdefault("DS_ACCELERATOR", "cuda" if torch.cuda.is_available() else "cpu")

from hft_ray.training.checkpoint import CheckpointError
from hft_ray.training.checks import check, check_settings
from hft_ray.training.outcome import Outcome, Report, TrainingError
from hft_ray.training.workspace import Workspace

__all__ = [
    "CheckpointError",
    "Outcome",
    "Report",
    "TrainingError",
    "Workspace",
    "check",
    "check_settings",
]
