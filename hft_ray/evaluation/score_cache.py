"""A cache of scores on disk: the same weights and evaluations are scored once.

A model's scores are ``KEY.json``; what later models are compared with lies
beside them in ``KEY.NAME.safetensors``.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from dataclasses import replace
from pathlib import Path

from safetensors.torch import load_file, save

from hft_ray.config import Evaluation, EvaluationSection, LmEval, PairPreference
from hft_ray.data.records import fingerprint
from hft_ray.evaluation.check import files_of
from hft_ray.evaluation.harness import load_harness
from hft_ray.evaluation.score import Scores

CODE_VERSION = 3
"""Raise this when a change to the scorers changes scores."""


class BaseScores:
    """A cache of scores by content, one file each under ``CACHE/base_scores``.

    Args:
        cache: The cache folder of the storage root.
    """

    def __init__(self, cache: Path) -> None:
        self._folder = cache / "base_scores"

    def key(
        self, weights: str, section: EvaluationSection, precision: str, base: str | None = None
    ) -> str:
        """Return the key of a model's scores: a hash of everything that they depend on.

        Args:
            weights: Hash of the model's weights and tokenizer.
            section: What is scored; its data counts by content, its batch size not at all.
            precision: Number format of the model.
            base: Key of the base's scores, which ``kl`` and rewards depend on; ``None`` for
                the base itself.

        Raises:
            ConfigError: The data of an evaluation is not there.
        """
        parts = [len(section.task), *(_identity(item, path) for path, item in section.places())]
        compared = base if any(_compares(item) for _, item in section.places()) else None
        content = json.dumps([CODE_VERSION, weights, precision, parts, compared], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()

    def get(self, key: str) -> Scores | None:
        """Return the scores kept under ``key``, or ``None``."""
        try:
            content = json.loads((self._folder / f"{key}.json").read_text(encoding="utf-8"))
            references = {
                name: load_file(self._folder / f"{key}.{name}.safetensors")
                for name in content["references"]
            }
        except FileNotFoundError:
            return None
        return replace(Scores.from_json(content), references=references)

    def put(self, key: str, scores: Scores) -> None:
        """Keep ``scores`` under ``key``; a reader sees all of them or none."""
        self._folder.mkdir(parents=True, exist_ok=True)
        for name, reference in scores.references.items():
            self._write(f"{key}.{name}.safetensors", save(reference))
        # Last, since this file is what a reader looks for.
        content = {**scores.to_json(), "references": sorted(scores.references)}
        self._write(f"{key}.json", json.dumps(content, allow_nan=False).encode())

    def _write(self, name: str, content: bytes) -> None:
        handle, partial = tempfile.mkstemp(dir=self._folder, suffix=".tmp")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
            Path(partial).replace(self._folder / name)
        finally:
            Path(partial).unlink(missing_ok=True)


def _compares(evaluation: Evaluation) -> bool:
    """Whether its scores depend on the base."""
    rewards = isinstance(evaluation, PairPreference) and evaluation.metric != "logprob_accuracy"
    return rewards or evaluation.kind == "kl"


def evaluation_identity(evaluation: Evaluation, path: str) -> str:
    """Return a hash of an evaluation's settings and data: equal ones have the same items.

    Args:
        evaluation: The evaluation.
        path: Its place in FILE.

    Raises:
        ConfigError: Its data is not there.
    """
    content = json.dumps([CODE_VERSION, _identity(evaluation, path)], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


def _identity(evaluation: Evaluation, path: str) -> list[object]:
    """Return the settings of an evaluation, and its data by content."""
    if isinstance(evaluation, LmEval):
        found = load_harness(evaluation, path).fingerprint(evaluation.limit)
        settings = evaluation.model_dump(mode="json", exclude={"suite", "include_path"})
        return [settings, found]
    settings = evaluation.model_dump(mode="json", exclude={"suite", "data", "shots_data", "split"})
    content = {
        key: fingerprint(name, path=f"{path}.{key}", split=evaluation.split)
        for key, name in files_of(evaluation)
    }
    return [settings, content]
