"""The base model's scores, kept on disk: the same weights and evaluations are scored once."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from pathlib import Path

from hft_ray.config import Evaluation, EvaluationSection
from hft_ray.data.records import fingerprint
from hft_ray.evaluation.check import files_of
from hft_ray.evaluation.score import Scores

CODE_VERSION = 2
"""Raise this when a change to the scorers changes scores."""


class BaseScores:
    """Scores by content, one file each under ``CACHE/base_scores``.

    Args:
        cache: The cache folder of the storage root.
    """

    def __init__(self, cache: Path) -> None:
        self._folder = cache / "base_scores"

    def key(self, weights: str, section: EvaluationSection, precision: str) -> str:
        """Return the key of one model's scores: a hash of all that they depend on.

        Args:
            weights: Hash of the model's weights and tokenizer.
            section: What is scored; its data counts by content, its batch size not at all.
            precision: Number format of the model.

        Raises:
            ConfigError: The data of an evaluation is not there.
        """
        parts = [len(section.task), *(_identity(item, path) for path, item in section.places())]
        content = json.dumps([CODE_VERSION, weights, precision, parts], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()

    def get(self, key: str) -> Scores | None:
        """Return the scores kept under ``key``, or ``None``."""
        try:
            text = self._file(key).read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        return Scores.from_json(json.loads(text))

    def put(self, key: str, scores: Scores) -> None:
        """Keep ``scores`` under ``key``; a reader sees the whole file or none."""
        self._folder.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=self._folder, suffix=".tmp")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump(scores.to_json(), file, allow_nan=False)
            Path(name).replace(self._file(key))
        finally:
            Path(name).unlink(missing_ok=True)

    def _file(self, key: str) -> Path:
        return self._folder / f"{key}.json"


def _identity(evaluation: Evaluation, path: str) -> list[object]:
    """Return the settings of an evaluation, and its data by content."""
    settings = evaluation.model_dump(mode="json", exclude={"suite", "data", "shots_data", "split"})
    content = {
        key: fingerprint(name, path=f"{path}.{key}", split=getattr(evaluation, "split", ""))
        for key, name in files_of(evaluation)
    }
    return [settings, content]
