"""Multiple choice by the log-likelihood of each choice after the question.

Follows lm-eval: the context is the question, the continuation a space and the choice; both are
tokenised together, and the continuation's tokens are those after the context's own number of
tokens. ``normalize`` divides by the choice's characters (lm-eval's acc_norm). After the header of a
chat template, or after white space, no space stands before the choice.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from hft_ray.config import MultipleChoice
from hft_ray.data import encode_text
from hft_ray.evaluation.items import Question, Shot
from hft_ray.evaluation.prompting import gap, render_prompt, show
from hft_ray.evaluation.score import Score
from hft_ray.evaluation.sharding import context_length, map_batches
from hft_ray.evaluation.tokens import token_logprobs
from hft_ray.ranks import Ranks

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class MultipleChoiceScorer:
    """Scores the questions of one evaluation, tokenised once.

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
        self._requests: list[tuple[list[int], int]] = []
        for question in questions:
            shown = show(question.question, shots, evaluation.chat)
            context = render_prompt(tokenizer, shown, question.where)
            self._requests += [
                encode_pair(tokenizer, context, f"{gap(shown)}{choice}")
                for choice in question.choices
            ]

    def score(self, model: PreTrainedModel, batch_size: int, ranks: Ranks) -> Score:
        """Return the accuracy of the likeliest choice (a collective).

        A question with a log-likelihood that is no number counts as wrong; of equal ones the first
        is taken.
        """
        found = iter(self.logliks(model, batch_size, ranks))
        right = []
        for question in self._questions:
            values = np.array([next(found) for _ in question.choices])
            if self._normalize:
                values /= [len(choice) for choice in question.choices]
            valid = not np.isnan(values).any()
            right.append(float(valid and int(values.argmax()) == question.answer))
        return Score.of("accuracy", right, worst=0.0)

    def logliks(self, model: PreTrainedModel, batch_size: int, ranks: Ranks) -> list[float]:
        """Return the log-likelihood of every choice of every question, in order (a collective)."""
        limit = context_length(model)
        # What the model has no positions for is cut from the left; the last token is not fed.
        start = 0 if limit is None else -(limit + 1)
        requests = [(tokens[start:], count) for tokens, count in self._requests]

        def compute(batch: list[int]) -> list[float]:
            logprobs = token_logprobs(model, [requests[index][0] for index in batch])
            return [
                float(each[-requests[index][1] :].sum())
                for index, each in zip(batch, logprobs, strict=True)
            ]

        return map_batches(compute, [len(tokens) for tokens, _ in requests], batch_size, ranks)


def encode_pair(
    tokenizer: PreTrainedTokenizerBase, context: str, continuation: str
) -> tuple[list[int], int]:
    """Tokenise a context and its continuation together.

    White space at the context's end goes to the continuation, where tokenizers merge it.

    Returns:
        The tokens of both, and how many of them, at the end, are the continuation's (1 or more).
    """
    stripped = context.rstrip()
    whole = encode_text(tokenizer, context + continuation)
    before = len(encode_text(tokenizer, stripped))
    return whole, max(len(whole) - before, 1)
