"""The evaluation section of FILE, ready to score one model after another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from hft_ray.config import (
    ConfigError,
    Evaluation,
    EvaluationSection,
    MultipleChoice,
    Perplexity,
    Problem,
)
from hft_ray.evaluation.generation import GenerationScorer
from hft_ray.evaluation.items import load_prompts, load_questions, load_texts
from hft_ray.evaluation.multiple_choice import MultipleChoiceScorer
from hft_ray.evaluation.perplexity import PerplexityScorer
from hft_ray.evaluation.score import Score, Scores
from hft_ray.evaluation.sharding import scoring
from hft_ray.ranks import Ranks

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class Scorer(Protocol):
    """One evaluation with its items, tokenised."""

    def score(self, model: PreTrainedModel, batch_size: int, ranks: Ranks) -> Score:
        """Score ``model``, which is in evaluation mode and records no gradients (a collective)."""


class Suite:
    """The evaluations of a section, their items loaded and tokenised once.

    Args:
        section: The evaluation section of FILE.
        tokenizer: The tokenizer of the models that will be scored.

    Raises:
        ConfigError: Everything that is wrong with the data of any evaluation.
    """

    def __init__(self, section: EvaluationSection, tokenizer: PreTrainedTokenizerBase) -> None:
        self._batch_size = section.batch_size
        problems: list[Problem] = []
        self._task = _scorers(section.task, "evaluation.task", tokenizer, problems)
        self._general = _scorers(section.general, "evaluation.general", tokenizer, problems)
        if problems:
            raise ConfigError(problems)

    def score(self, model: PreTrainedModel, ranks: Ranks = Ranks()) -> Scores:  # noqa: B008
        """Score ``model`` (a collective over ``ranks``); the same scores on every rank.

        The model's training mode and generation settings are as before afterwards.
        """
        with scoring(model):
            return Scores(
                task=self._score(self._task, model, ranks),
                general=self._score(self._general, model, ranks),
            )

    def _score(
        self, scorers: dict[str, Scorer], model: PreTrainedModel, ranks: Ranks
    ) -> dict[str, Score]:
        return {
            name: scorer.score(model, self._batch_size, ranks) for name, scorer in scorers.items()
        }


def _scorers(
    evaluations: Sequence[Evaluation],
    path: str,
    tokenizer: PreTrainedTokenizerBase,
    problems: list[Problem],
) -> dict[str, Scorer]:
    """Return evaluation name -> scorer, and add to ``problems`` what keeps one from being made."""
    scorers: dict[str, Scorer] = {}
    for index, evaluation in enumerate(evaluations):
        try:
            scorers[evaluation.name] = _scorer(evaluation, tokenizer, f"{path}.{index}")
        except ConfigError as error:
            problems += error.problems
    return scorers


def _scorer(evaluation: Evaluation, tokenizer: PreTrainedTokenizerBase, path: str) -> Scorer:
    if isinstance(evaluation, Perplexity):
        return PerplexityScorer(evaluation, load_texts(evaluation, path), tokenizer, path)
    if isinstance(evaluation, MultipleChoice):
        return MultipleChoiceScorer(evaluation, load_questions(evaluation, path), tokenizer)
    return GenerationScorer(evaluation, load_prompts(evaluation, path), tokenizer, path)
