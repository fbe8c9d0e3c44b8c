"""Multiple choice by the log-likelihood of each choice after the question.

As in lm-eval the context is the question, the continuation a space and the choice, and
``normalize`` divides by the choice's characters (acc_norm). Where the continuation's tokens begin
is decided by ``hft_ray.data.border``, as in training: unlike lm-eval, line breaks at the question's
end stay its own, and a chat template's header is never divided. No space stands before the choice
after white space, and in a dialogue the chat template decides.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from hft_ray.config import MultipleChoice
from hft_ray.evaluation.items import Question, Shot
from hft_ray.evaluation.prompting import encode_answered, show
from hft_ray.evaluation.score import Score
from hft_ray.evaluation.sharding import context_length
from hft_ray.evaluation.tokens import Span, sum_logprobs
from hft_ray.ranks import Ranks

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class MultipleChoiceScorer:
    """Scores the questions of one evaluation, tokenised once.

    Attributes:
        requests: Tokens of every choice of every question after what is shown, and how many of
            them are the choice's.

    Raises:
        ConfigError: ``chat`` is asked for, and the tokenizer's chat template is missing.
    """

    def __init__(
        self,
        evaluation: MultipleChoice,
        questions: Sequence[Question],
        tokenizer: PreTrainedTokenizerBase,
        path: str,
        shots: Sequence[Shot] = (),
    ) -> None:
        self._normalize = evaluation.normalize
        self._questions = questions
        self.requests: list[tuple[list[int], int]] = []
        for question in questions:
            shown = show(question.question, shots, evaluation.chat)
            for choice in question.choices:
                tokens, before = encode_answered(tokenizer, shown, choice, question.where)
                self.requests.append((tokens, max(len(tokens) - before, 1)))

    def sequences(self) -> list[Sequence[int]]:
        """Return the token sequences that a model reads, as they are before they are cut."""
        return [tokens for tokens, _ in self.requests]

    def score(self, model: PreTrainedModel, batch_size: int, ranks: Ranks) -> Score:
        """Return the accuracy of the likeliest choice (a collective).

        A question with a log-likelihood of NaN counts as wrong; of equal ones the first is taken.
        """
        found = iter(self.logliks(model, batch_size, ranks))
        right = []
        for question in self._questions:
            values = np.array([next(found) for _ in question.choices])
            if self._normalize:
                values /= [len(choice) for choice in question.choices]
            valid = not np.isnan(values).any()
            right.append(float(valid and int(values.argmax()) == question.answer))
        chance = sum(1 / len(question.choices) for question in self._questions) / len(right)
        return Score.of("accuracy", right, worst=0.0, chance=chance)

    def logliks(self, model: PreTrainedModel, batch_size: int, ranks: Ranks) -> list[float]:
        """Return the log-likelihood of every choice of every question, in order (a collective)."""
        limit = context_length(model)
        # What the model has no positions for is cut from the left; the last token is not fed.
        start = 0 if limit is None else -(limit + 1)
        spans = [Span.last(tokens[start:], count) for tokens, count in self.requests]
        return sum_logprobs(model, spans, batch_size, ranks)
