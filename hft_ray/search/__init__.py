"""Optuna's side of a sweep: space, samplers, the study, and the searcher for Ray Tune."""

from hft_ray.search.known import Known
from hft_ray.search.study import Study

__all__ = ["Known", "Study"]
