"""The data sets of a sweep for tracking: what is trained on, and what metrics are measured on."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

from hft_ray.config import STDERR, Config, Data, Evaluation, LmEval
from hft_ray.data import locate
from hft_ray.data.records import fingerprint
from hft_ray.tracking import DataSet

log = logging.getLogger(__name__)
TRAINING, TASK, GENERAL = "training", "task", "general"
UNKNOWN = "unknown"
"""Digest of data that cannot be read now."""
_MEANS = ("score", "mean")


def data_sets(config: Config) -> list[DataSet]:
    """Return everything that the runs of FILE read: training data, then evaluations.

    Files are hashed, which takes a second for each gigabyte.
    """
    trained = {**config.training_data, **config.pair_data}
    return [*(_of_training(path, data) for path, data in trained.items()), *_scored(config)]


def data_of(metric: str, data: Sequence[DataSet]) -> DataSet | None:
    """Return the data set that a metric is measured on, None if there is none or are several.

    Evaluations give their names to metrics: ``task/NAME``, ``general/NAME``, ``forgetting/NAME``
    and ``retention/NAME``. A mean has a data set where it is the mean of one evaluation.
    """
    prefix, _, name = metric.removeprefix(STDERR).rpartition("/")
    kind = prefix.rpartition("/")[2]
    if kind not in ("task", "general", "forgetting", "retention"):
        return None
    scored = [each for each in data if each.context != TRAINING]
    if name in _MEANS:
        found = [each for each in scored if each.context == (TASK if kind == "task" else GENERAL)]
    else:
        found = [each for each in scored if each.name == name]
    return found[0] if len(found) == 1 else None


def _scored(config: Config) -> Iterator[DataSet]:
    section = config.scored
    for place, (path, evaluation) in enumerate(section.places()):
        yield _of_evaluation(path, evaluation, TASK if place < len(section.task) else GENERAL)


def _of_training(path: str, data: Data) -> DataSet:
    return _made(Path(data.train).name, data.train, TRAINING, path, data.split)


def _of_evaluation(path: str, evaluation: Evaluation, context: str) -> DataSet:
    if isinstance(evaluation, LmEval):
        settings = evaluation.model_dump_json(exclude={"name", "suite"})
        digest = hashlib.sha256(settings.encode()).hexdigest()
        return DataSet(evaluation.name, digest, f"lm_eval:{evaluation.task}", context)
    return _made(evaluation.name, evaluation.data, context, f"{path}.data", evaluation.split)


def _made(name: str, source: str, context: str, path: str, split: str) -> DataSet:
    try:
        hub = locate(source, path) is None
        digest = fingerprint(source, path=path, split=split)
    except Exception as error:  # noqa: BLE001 - a description never ends a sweep
        # Gone since it was checked; what trains reads it by itself.
        log.warning("%s: no digest for tracking: %s", source, error)
        hub, digest = False, UNKNOWN
    return DataSet(name, digest, source, context, split if hub else None)
