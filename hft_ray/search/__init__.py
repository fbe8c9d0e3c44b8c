"""Optuna's side of a sweep: space, samplers, the study, and the searcher for Ray Tune."""

from hft_ray.search.known import Known
from hft_ray.search.study import FULL, Study

__all__ = ["FULL", "Known", "Study"]
