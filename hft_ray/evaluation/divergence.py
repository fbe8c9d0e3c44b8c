"""The distance of a model from the base: forward KL(base || tuned) on the task's records.

At every compared position the two models read the same tokens x and predict the next one:

    KL(p || q) = sum over tokens v of p(v | x) (log p(v | x) - log q(v | x)),   in nats

The score is its mean over positions; with the records' right answers it is the quantity that
"RL's Razor" (Shenfeld et al., arXiv 2509.04259) finds to predict forgetting best.

Of the base's distribution the ``top`` likeliest tokens are kept one by one, and all others as one
outcome. Joining outcomes cannot raise a KL divergence (the data-processing inequality), so the
score is a lower bound, and exact where the vocabulary has at most ``top`` tokens. 256 tokens take
2 kB a position; the whole distribution of a vocabulary of 128,000 would take 512 kB.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hft_ray.config import ConfigError, Divergence, Problem
from hft_ray.data import encode_text
from hft_ray.evaluation.base_comparison import check_length, check_same_tokens, fingerprint
from hft_ray.evaluation.items import Passage
from hft_ray.evaluation.likeliest import likeliest, rest_of
from hft_ray.evaluation.prompting import encode_answered, show
from hft_ray.evaluation.score import Score
from hft_ray.evaluation.sharding import map_batches
from hft_ray.evaluation.tokens import Span, predictions
from hft_ray.ranks import Ranks

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True)
class Reference:
    """The base's predictions at all compared positions of an evaluation, in order.

    Attributes:
        tokens: The likeliest tokens, int32, [N, top].
        logprobs: Their log-probabilities in nats, float32, [N, top].
        rest: Log of the probability of all other tokens, float32, [N]; -inf where there is none.
        records: Hash of the token sequences and positions, uint8, [32].
    """

    tokens: Tensor
    logprobs: Tensor
    rest: Tensor
    records: Tensor

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors by name; ``Reference(**tensors)`` is equal."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


_Look = Callable[[Tensor, Tensor], tuple[Tensor, ...]]
"""``look(logits [P, V], positions [P])``; positions count through all spans."""


class DivergenceScorer:
    """Compares models on the records of one evaluation, tokenised once.

    Attributes:
        spans: Tokens of each record, and the positions that are compared.

    Raises:
        ConfigError: No record has a token to compare, or the chat template is missing.
    """

    def __init__(
        self,
        evaluation: Divergence,
        passages: Sequence[Passage],
        tokenizer: PreTrainedTokenizerBase,
        path: str,
    ) -> None:
        self._evaluation, self._path = evaluation, path
        self.spans = [_span(evaluation, passage, tokenizer) for passage in passages]
        if not any(span.count for span in self.spans):
            message = "no record has a token to compare: none has one before it"
            raise ConfigError(Problem(f"{path}.data", message, evaluation.data))

    def sequences(self) -> list[Sequence[int]]:
        """Return the token sequences that a model reads, as they are before they are cut."""
        return [span.tokens for span in self.spans]

    def reference(self, model: PreTrainedModel, batch_size: int, ranks: Ranks) -> dict[str, Tensor]:
        """Return a ``Reference`` of ``model``, the base, as tensors (a collective)."""
        top = min(self._evaluation.top, model.config.get_text_config().vocab_size)

        def look(logits: Tensor, positions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            tokens, best, rest = likeliest(logits.log_softmax(dim=-1), top)
            return tokens.int(), best, rest

        tokens, logprobs, rest = zip(*self._map(look, model, batch_size, ranks), strict=True)
        found = Reference(
            torch.cat(tokens), torch.cat(logprobs), torch.cat(rest), self._fingerprint()
        )
        return found.tensors()

    def base_score(self, model: PreTrainedModel) -> Score:
        """Return the score of the base against itself: 0 everywhere."""
        return self._score(model, [0.0] * len(self.spans))

    def score_against(
        self, base: dict[str, Tensor], model: PreTrainedModel, batch_size: int, ranks: Ranks
    ) -> Score:
        """Return the divergence of ``model`` from the base (a collective).

        Raises:
            ConfigError: The base was given other tokens than ``model``.
        """
        reference = Reference(**base)
        check_same_tokens(reference.records, self._fingerprint(), self._path)

        def look(logits: Tensor, positions: Tensor) -> tuple[Tensor]:
            tokens = reference.tokens[positions].long().to(logits.device)
            logprobs = logits.log_softmax(dim=-1)
            rest = reference.rest[positions, None]
            there = torch.cat([reference.logprobs[positions], rest], dim=-1)
            rest = rest_of(logprobs, tokens)[:, None]
            here = torch.cat([logprobs.gather(-1, tokens), rest], dim=-1)
            return (_divergence(there.double(), here.cpu().double()),)

        found = self._map(look, model, batch_size, ranks)
        return self._score(model, [float(each.sum()) / max(len(each), 1) for (each,) in found])

    def _score(self, model: PreTrainedModel, means: list[float]) -> Score:
        # A model that knows nothing, uniform over the vocabulary, is at most this far away.
        worst = math.log(model.config.get_text_config().vocab_size)
        weights = [span.count for span in self.spans]
        return Score.of("kl", means, worst=worst, weights=weights)

    def _map(
        self, look: _Look, model: PreTrainedModel, batch_size: int, ranks: Ranks
    ) -> list[tuple[Tensor, ...]]:
        """Return what ``look`` finds in every span, in order (a collective)."""
        longest = max(len(span.tokens) for span in self.spans)
        check_length(model, longest, self._path, self._evaluation.max_length)
        counts = [span.count for span in self.spans]
        numbers = torch.arange(sum(counts)).split(counts)

        def run(batch: list[int]) -> list[tuple[Tensor, ...]]:
            positions = torch.cat([numbers[index] for index in batch])
            return predictions(
                model,
                [self.spans[index] for index in batch],
                lambda logits, _, places: look(logits, positions[places]),
            )

        return map_batches(run, [len(span.tokens) for span in self.spans], batch_size, ranks)

    def _fingerprint(self) -> Tensor:
        return fingerprint([[span.tokens, span.start, span.stop] for span in self.spans])


def _span(evaluation: Divergence, passage: Passage, tokenizer: PreTrainedTokenizerBase) -> Span:
    if passage.prompt == "":
        tokens, answer = encode_text(tokenizer, passage.text), None
    else:
        shown = show(passage.prompt, (), evaluation.chat)
        tokens, before = encode_answered(tokenizer, shown, passage.text, passage.where)
        answer = len(tokens) - before
    # The last token is not fed, so a record may have one more.
    cut = max(0, len(tokens) - evaluation.max_length - 1)
    tokens = tokens[cut:]
    first, border = 1, len(tokens)
    if answer is not None and evaluation.tokens == "answer":
        first = max(1, len(tokens) - answer)
    elif answer is not None and evaluation.tokens == "prompt":
        border = len(tokens) - answer
    return Span(tokens, first, max(first, border))


def _divergence(there: Tensor, here: Tensor) -> Tensor:
    """Return KL(there || here) of each position, [P], both log-probabilities [P, top + 1]."""
    terms = there.exp() * (there - here)
    # What the base holds impossible adds nothing, whatever the other model thinks of it.
    return terms.where(there > -math.inf, 0.0).sum(dim=-1)
