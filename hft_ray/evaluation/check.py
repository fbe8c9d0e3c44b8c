"""Checks of an evaluation that need neither a model nor a tokenizer."""

from __future__ import annotations

from hft_ray.config import Evaluation, Generation, LmEval, MultipleChoice
from hft_ray.evaluation.harness import check_harness
from hft_ray.evaluation.items import load_items, load_shots


def files_of(evaluation: Evaluation) -> list[tuple[str, str]]:
    """Return the data files or hub data sets of an evaluation: setting -> name."""
    if isinstance(evaluation, LmEval):
        return []
    names = [("data", evaluation.data), ("shots_data", getattr(evaluation, "shots_data", None))]
    return [(key, name) for key, name in names if name is not None]


def check_evaluation(evaluation: Evaluation, path: str) -> None:
    """Read the data of ``evaluation``; ``path`` is its place in FILE.

    Raises:
        ConfigError: The data cannot be read, is empty, or does not fit the kind of evaluation.
    """
    if isinstance(evaluation, LmEval):
        check_harness(evaluation, path)
        return
    load_items(evaluation, path)
    if isinstance(evaluation, MultipleChoice | Generation):
        load_shots(evaluation, path)
