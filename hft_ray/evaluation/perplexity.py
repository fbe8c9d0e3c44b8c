"""Cross-entropy per token on plain texts, or on the answers to prompts.

A text of tokens t_0 .. t_N (t_0 is the beginning-of-sequence token where the tokenizer puts one)
is cut into windows of L input tokens, L = max_length or what the model has positions for: window k
feeds t_{kL} .. t_{kL+L-1} and predicts t_{kL+1} .. t_{kL+L}. So windows do not overlap, the first
prediction of a later window is conditioned on the last token of the window before, and every token
but t_0 is predicted exactly once (as the "rolling" log-likelihood of lm-eval with context 1).
Of a prompt and its answer there is one window, which ends with the answer, and the answer's tokens
alone are predicted: those that training on the record predicts, without the end of the text.
Perplexity is exp of the score.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from hft_ray.config import ConfigError, Perplexity, Problem
from hft_ray.data import encode_text
from hft_ray.evaluation.items import Passage
from hft_ray.evaluation.prompting import encode_answered
from hft_ray.evaluation.score import Score
from hft_ray.evaluation.sharding import context_length
from hft_ray.evaluation.tokens import Span, sum_logprobs
from hft_ray.ranks import Ranks

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class PerplexityScorer:
    """Scores the texts of one evaluation, tokenised once.

    Raises:
        ConfigError: No text has a token to predict, or the chat template is missing.
    """

    def __init__(
        self,
        evaluation: Perplexity,
        passages: Sequence[Passage],
        tokenizer: PreTrainedTokenizerBase,
        path: str,
    ) -> None:
        self._max_length = evaluation.max_length
        self._texts: list[list[int]] = []
        self._answers: list[int | None] = []
        """Tokens of each answer; None of a plain text, whose tokens are all predicted."""
        for passage in passages:
            if passage.prompt == "":
                self._texts.append(encode_text(tokenizer, passage.text))
                self._answers.append(None)
                continue
            tokens, before = encode_answered(tokenizer, passage.prompt, passage.text, passage.where)
            self._texts.append(tokens)
            self._answers.append(len(tokens) - before)
        if all(len(text) < 2 for text in self._texts):
            message = "no text has a token to predict: each is a single token"
            raise ConfigError(Problem(f"{path}.data", message, evaluation.data))

    def sequences(self) -> list[Sequence[int]]:
        """Return the token sequences that a model reads, as they are before they are cut."""
        return list(self._texts)

    def score(self, model: PreTrainedModel, batch_size: int, ranks: Ranks) -> Score:
        """Return the cross-entropy in nats per predicted token (a collective)."""
        length = min(self._max_length, context_length(model) or self._max_length)
        owners: list[int] = []
        windows: list[Span] = []
        for index, (text, answer) in enumerate(zip(self._texts, self._answers, strict=True)):
            if answer is None:
                own = [Span(window, 1, len(window)) for window in cut(text, length)]
            else:
                own = [Span.last(text[-(length + 1) :], answer)]
            windows += own
            owners += [index] * len(own)

        losses, predicted = [0.0] * len(self._texts), [0] * len(self._texts)
        found = sum_logprobs(model, windows, batch_size, ranks)
        for owner, window, logprob in zip(owners, windows, found, strict=True):
            losses[owner] -= logprob
            predicted[owner] += window.count
        means = [loss / max(n, 1) for loss, n in zip(losses, predicted, strict=True)]
        worst = math.log(model.config.get_text_config().vocab_size)
        return Score.of("cross_entropy", means, worst=worst, weights=predicted)


def cut(text: Sequence[int], length: int) -> list[list[int]]:
    """Cut tokens into windows of up to ``length`` inputs and one more token, the last target."""
    return [list(text[start : start + length + 1]) for start in range(0, len(text) - 1, length)]
