"""Writes sweeps to MLflow in the background and reads them back; no other package imports MLflow.

Importing this package does not import MLflow, which takes seconds.
"""

from hft_ray.tracking.comparison_run import NotLoggedError, log_comparison
from hft_ray.tracking.data_sets import DataSet
from hft_ray.tracking.environment import source_tags
from hft_ray.tracking.location import artifact_location, tracking_uri
from hft_ray.tracking.names import DRIVER, JOB, run_key
from hft_ray.tracking.notes import sweep_note
from hft_ray.tracking.preflight import probe
from hft_ray.tracking.requests import StopMode, StopRequests, SweepRun, silence
from hft_ray.tracking.store import RejectedError, UnavailableError
from hft_ray.tracking.sweep_reader import (
    SweepRecord,
    TimeSpan,
    TrialRecord,
    read_sweep,
    sweep_names,
)
from hft_ray.tracking.writer import State, Tracker

__all__ = [
    "DRIVER",
    "JOB",
    "DataSet",
    "NotLoggedError",
    "RejectedError",
    "State",
    "StopMode",
    "StopRequests",
    "SweepRecord",
    "SweepRun",
    "TimeSpan",
    "Tracker",
    "TrialRecord",
    "UnavailableError",
    "artifact_location",
    "log_comparison",
    "probe",
    "read_sweep",
    "run_key",
    "silence",
    "source_tags",
    "sweep_names",
    "sweep_note",
    "tracking_uri",
]
