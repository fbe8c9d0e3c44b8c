"""Scores models on the evaluation section of FILE."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

from hft_ray.config import (
    ConfigError,
    Divergence,
    Evaluation,
    EvaluationSection,
    Generation,
    LmEval,
    MultipleChoice,
    PairPreference,
    Perplexity,
    Problem,
)
from hft_ray.evaluation.divergence import DivergenceScorer
from hft_ray.evaluation.generation import GenerationScorer
from hft_ray.evaluation.harness_scorer import HarnessScorer
from hft_ray.evaluation.items import (
    load_groups,
    load_pairs,
    load_passages,
    load_prompts,
    load_questions,
    load_shots,
)
from hft_ray.evaluation.multiple_choice import MultipleChoiceScorer
from hft_ray.evaluation.perplexity import PerplexityScorer
from hft_ray.evaluation.preference_accuracy import PreferenceScorer, RewardScorer
from hft_ray.evaluation.score import Score, Scores
from hft_ray.evaluation.sharding import scoring
from hft_ray.ranks import Ranks

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

PROGRESS = "hft_ray.progress"
"""Logger of the progress of long steps, which the user is shown."""
_progress = logging.getLogger(PROGRESS)


class Scorer(Protocol):
    """One evaluation with its items, tokenised."""

    def sequences(self) -> list[Sequence[int]]:
        """Return the token sequences that a model reads, as they are before they are cut."""

    def score(self, model: PreTrainedModel, batch_size: int, ranks: Ranks) -> Score:
        """Score ``model``, which is in evaluation mode and records no gradients (a collective)."""


Comparing = DivergenceScorer | RewardScorer
"""Scorers that compare a model with the base."""


class Suite:
    """The evaluations of a section, their items loaded and tokenised once.

    Args:
        section: The evaluation section of FILE.
        tokenizer: The tokenizer of the models that will be scored.

    Raises:
        ConfigError: All errors in the data of the evaluations.
    """

    def __init__(self, section: EvaluationSection, tokenizer: PreTrainedTokenizerBase) -> None:
        self._batch_size = section.batch_size
        problems: list[Problem] = []
        scorers: dict[str, Scorer | Comparing] = {}
        self._groups: dict[str, list[int] | None] = {}
        for path, evaluation in section.places():
            try:
                scorers[evaluation.name] = make_scorer(evaluation, tokenizer, path)
                if not isinstance(evaluation, LmEval):
                    self._groups[evaluation.name] = load_groups(evaluation, path)
            except ConfigError as error:
                problems += error.problems
        if problems:
            raise ConfigError(problems)
        self._task = {item.name: scorers[item.name] for item in section.task}
        self._general = {item.name: scorers[item.name] for item in section.general}

    def score(
        self,
        model: PreTrainedModel,
        ranks: Ranks = Ranks(),  # noqa: B008
        base: Scores | None = None,
    ) -> Scores:
        """Score ``model`` (a collective over ``ranks``); the same scores on every rank.

        The model's training mode and generation settings are as before afterwards.

        Args:
            model: The model, on its device.
            ranks: The processes that score it together.
            base: Scores of the base by this suite, for evaluations that compare with it. ``None``:
                the model is the base; its scores then hold what later models are compared with.
        """
        with scoring(model):
            references: dict[str, dict[str, Tensor]] = {}
            task, general = (
                {
                    name: self._score(name, scorer, model, ranks, base, references)
                    for name, scorer in self._with_progress(scorers, base is None)
                }
                for scorers in (self._task, self._general)
            )
        return Scores(task, general, references)

    def _with_progress(
        self, scorers: dict[str, Scorer | Comparing], is_base: bool
    ) -> Iterator[tuple[str, Scorer | Comparing]]:
        """Yield the scorers, and log each as its turn comes."""
        names = [*self._task, *self._general]
        for name, scorer in scorers.items():
            which = "the base model" if is_base else "the model"
            place = f"evaluation {names.index(name) + 1} of {len(names)}"
            level = logging.INFO if is_base else logging.DEBUG
            _progress.log(level, "scoring %s: %s, %s", which, place, name)
            yield name, scorer

    def _score(
        self,
        name: str,
        scorer: Scorer | Comparing,
        model: PreTrainedModel,
        ranks: Ranks,
        base: Scores | None,
        references: dict[str, dict[str, Tensor]],
    ) -> Score:
        """Score one evaluation; store the base's predictions in ``references``."""
        if not isinstance(scorer, Comparing):
            score = scorer.score(model, self._batch_size, ranks)
        elif base is not None:
            score = scorer.score_against(base.references[name], model, self._batch_size, ranks)
        else:
            references[name] = scorer.reference(model, self._batch_size, ranks)
            score = scorer.base_score(model)
        groups = self._groups.get(name)
        return score if groups is None else score.grouped(groups)


def make_scorer(
    evaluation: Evaluation, tokenizer: PreTrainedTokenizerBase, path: str
) -> Scorer | Comparing:
    """Load and tokenise one evaluation, whose place in FILE is ``path``.

    Raises:
        ConfigError: All errors in its data.
    """
    if isinstance(evaluation, Perplexity):
        return PerplexityScorer(evaluation, load_passages(evaluation, path), tokenizer, path)
    if isinstance(evaluation, MultipleChoice):
        questions, shots = load_questions(evaluation, path), load_shots(evaluation, path)
        return MultipleChoiceScorer(evaluation, questions, tokenizer, path, shots)
    if isinstance(evaluation, Generation):
        prompts, solved = load_prompts(evaluation, path), load_shots(evaluation, path)
        return GenerationScorer(evaluation, prompts, tokenizer, path, solved)
    if isinstance(evaluation, Divergence):
        return DivergenceScorer(evaluation, load_passages(evaluation, path), tokenizer, path)
    if isinstance(evaluation, PairPreference):
        plain = evaluation.metric == "logprob_accuracy"
        kind = PreferenceScorer if plain else RewardScorer
        return kind(evaluation, load_pairs(evaluation, path), tokenizer, path)
    return HarnessScorer(evaluation, tokenizer, path)
