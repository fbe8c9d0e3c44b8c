"""Reads the item scores of a sweep's points from its folder or from tracking."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from hft_ray.item_scores import (
    BASE,
    SUFFIX,
    Answers,
    ItemScores,
    Sample,
    read_all,
    read_one,
)
from hft_ray.orchestration.folder import SweepFolder
from hft_ray.pareto import Point
from hft_ray.tracking import SweepRecord, run_key

if TYPE_CHECKING:  # imports Optuna, which `hft-ray status` does without
    from hft_ray.search import TrialSnapshot

SCORES = "scores.safetensors"
"""Item scores of all points of a sweep, beside its front."""
FINAL = "final"
"""Name of the item scores of a trained model, as of its kept weights."""


class FolderAnswers:
    """Item scores of trials, read from the sweep's folder and cached."""

    def __init__(self, folder: SweepFolder) -> None:
        self._folder = folder
        self._sample: Sample | None = None
        self._known: dict[str, Answers] = {}

    def __call__(self, trial: str) -> Answers | None:
        """Return the item scores of a trained model, None if they are unknown."""
        if self._sample is None and (base := read_one(_base(self._folder))) is not None:
            self._sample = Sample(base)
        if self._sample is not None and trial not in self._known:
            model = read_one(self._folder.scores / trial / f"{FINAL}{SUFFIX}")
            if model is not None:
                self._known[trial] = Answers(self._sample, model)
        return self._known.get(trial)


def _base(folder: SweepFolder) -> Path:
    return folder.scores / f"{BASE}{SUFFIX}"


def item_scores_in(folder: SweepFolder, trials: Iterable[TrialSnapshot]) -> dict[str, ItemScores]:
    """Return the item scores that a sweep's folder has: of the base, and of the complete points."""
    places = {BASE: _base(folder)}
    for known in trials:
        if (known.result.get("state") or known.state) == "complete":
            own = folder.scores / known.trial
            places[known.trial] = own / f"{FINAL}{SUFFIX}"
            for each in known.result.get("variants") or ():
                name = each["variant"]
                places[run_key(known.trial, name)] = own / f"{name}{SUFFIX}"
    found = {key: read_one(path) for key, path in places.items()}
    return {key: scores for key, scores in found.items() if scores is not None}


def with_answers(points: Sequence[Point], models: Mapping[str, ItemScores]) -> list[Point]:
    """Return the points with what they scored on single items, where ``models`` has it."""
    if BASE not in models:
        return list(points)
    sample = Sample(models[BASE])
    keys = [run_key(point.trial, point.variant) for point in points]
    return [
        replace(point, answers=Answers(sample, models[key])) if key in models else point
        for point, key in zip(points, keys, strict=True)
    ]


def item_scores_of(record: SweepRecord) -> dict[str, ItemScores]:
    """Return the item scores that tracking has; none of a sweep that has no report yet."""
    with record.file(f"front/{SCORES}") as path:
        return {} if path is None else read_all(path)
