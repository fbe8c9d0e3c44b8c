"""The search of a sweep with Optuna: space, samplers, early stopping, and the study."""

from hft_ray.search.study import Study
from hft_ray.search.trial_snapshot import TrialSnapshot

__all__ = ["Study", "TrialSnapshot"]
