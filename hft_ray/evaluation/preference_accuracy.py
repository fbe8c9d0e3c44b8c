"""How often a model prefers the chosen answer of a pair to the rejected one.

Notation: h(y) = log pi(y | x) of an answer y to the prompt x, its tokens summed; g(y) the same by
the base. A pair with the chosen answer w and the rejected answer l counts as

    logprob_accuracy    1 if h(w) > h(l)
    reward_accuracy     1 if h(w) - g(w) > h(l) - g(l): the implicit reward of DPO (Rafailov et al.,
                        arXiv 2305.18290, sec. 4) is beta times these differences

else 0, and 1/2 where both sides are equal: the base has a reward accuracy of exactly 0.5. The
metric ``reward_margin`` is the mean of the difference of the two sides, in nats. With ``normalize``
each side is divided by the answer's tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hft_ray.config import ConfigError, PairPreference, Problem
from hft_ray.data import Encoded, Pair, TextPair, encode_answers
from hft_ray.data.problems import placed
from hft_ray.evaluation.base_comparison import check_length, check_same_tokens, fingerprint
from hft_ray.evaluation.score import Score
from hft_ray.evaluation.tokens import Span, sum_logprobs
from hft_ray.ranks import Ranks

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Logprobs = NDArray[np.float64]


class PreferenceScorer:
    """Scores the pairs of one evaluation, tokenised once, by a model's own log-probabilities.

    Raises:
        ConfigError: An answer has no token within ``max_length``, or the chat template is missing
            or refuses a dialogue.
    """

    def __init__(
        self,
        evaluation: PairPreference,
        pairs: Sequence[Pair],
        tokenizer: PreTrainedTokenizerBase,
        path: str,
    ) -> None:
        self._evaluation, self._path = evaluation, path
        answers = [
            answer for pair in pairs for answer in _encoded(tokenizer, pair, evaluation.max_length)
        ]
        self._sequences = [answer.input_ids for answer in answers]
        self._counts = [answer.answer_tokens for answer in answers]
        if short := sum(count == 0 for count in self._counts):
            message = f"leaves {short} of {len(answers)} answers without a token: raise it"
            raise ConfigError(Problem(f"{path}.max_length", message, evaluation.max_length))

    def sequences(self) -> list[Sequence[int]]:
        """Return the token sequences that a model reads, as they are before they are cut."""
        return list(self._sequences)

    def score(self, model: PreTrainedModel, batch_size: int, ranks: Ranks) -> Score:
        """Return the share of pairs whose chosen answer is likelier (a collective)."""
        return self._share(self._logprobs(model, batch_size, ranks))

    def _logprobs(self, model: PreTrainedModel, batch_size: int, ranks: Ranks) -> Logprobs:
        """Return log pi(y | x) of the chosen and the rejected answers, [n, 2] (a collective)."""
        longest = max(map(len, self._sequences))
        check_length(model, longest, self._path, self._evaluation.max_length)
        spans = [Span.last(*each) for each in zip(self._sequences, self._counts, strict=True)]
        return np.array(sum_logprobs(model, spans, batch_size, ranks)).reshape(-1, 2)

    def _share(self, values: Logprobs) -> Score:
        """Return the score of pairs by the values of their two answers, [n, 2]."""
        if self._evaluation.normalize:
            values = values / np.reshape(self._counts, (-1, 2))
        chosen, rejected = values.T
        if self._evaluation.metric == "reward_margin":
            return Score.of("reward_margin", (chosen - rejected).tolist(), worst=0.0)
        # A pair with NaN is wrong.
        right = np.where(chosen > rejected, 1.0, np.where(chosen == rejected, 0.5, 0.0))
        return Score.of(self._evaluation.metric, right.tolist(), worst=0.0, chance=0.5)


def _encoded(
    tokenizer: PreTrainedTokenizerBase, pair: Pair, max_length: int
) -> tuple[Encoded, Encoded]:
    """Tokenise a pair; errors of a dialogue name the place where it was read."""
    try:
        return encode_answers(tokenizer, pair, max_length)
    except ConfigError as error:
        where = "" if isinstance(pair, TextPair) else pair.where
        raise ConfigError(placed(each, where) for each in error.problems) from error


class RewardScorer(PreferenceScorer):
    """Scores pairs by a model's log-probabilities relative to the base's."""

    def reference(self, model: PreTrainedModel, batch_size: int, ranks: Ranks) -> dict[str, Tensor]:
        """Return the log-probabilities of ``model``, the base (a collective)."""
        logprobs = torch.from_numpy(self._logprobs(model, batch_size, ranks))
        return {"logprobs": logprobs, "records": self._fingerprint()}

    def base_score(self, model: PreTrainedModel) -> Score:
        """Return the score of the base against itself: one half everywhere."""
        return self._share(np.zeros((len(self._sequences) // 2, 2)))

    def score_against(
        self, reference: dict[str, Tensor], model: PreTrainedModel, batch_size: int, ranks: Ranks
    ) -> Score:
        """Return the share of pairs whose chosen answer has the higher reward (a collective).

        Raises:
            ConfigError: The base was given other tokens than ``model``.
        """
        check_same_tokens(reference["records"], self._fingerprint(), self._path)
        logprobs = self._logprobs(model, batch_size, ranks)
        return self._share(logprobs - reference["logprobs"].numpy())

    def _fingerprint(self) -> Tensor:
        return fingerprint([self._sequences, self._counts])
