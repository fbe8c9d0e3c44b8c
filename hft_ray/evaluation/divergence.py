"""How far a model has moved from the base: forward KL(base || tuned) on the task's records.

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

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from hft_ray.config import ConfigError, Divergence, Problem
from hft_ray.data import encode_text
from hft_ray.evaluation.items import Passage
from hft_ray.evaluation.prompting import encode_answered, show
from hft_ray.evaluation.score import Score
from hft_ray.evaluation.sharding import context_length, map_batches
from hft_ray.evaluation.tokens import sequence_logits
from hft_ray.ranks import Ranks

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True)
class Reference:
    """What the base predicts at all compared positions of an evaluation, in order.

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


@dataclass(frozen=True)
class _Span:
    """A token sequence of which the tokens [start, stop) are compared; start is 1 or more."""

    tokens: list[int]
    start: int
    stop: int

    @property
    def count(self) -> int:
        return self.stop - self.start

    def rows(self, logits: Tensor) -> Tensor:
        """Return of the logits [T - 1, V] of a sequence those that predict the span, [count, V]."""
        return logits[self.start - 1 : self.stop - 1]


class DivergenceScorer:
    """Compares models on the records of one evaluation, tokenised once.

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
        self._spans = [_span(evaluation, passage, tokenizer) for passage in passages]
        if not any(span.count for span in self._spans):
            message = "no record has a token to compare: none has one before it"
            raise ConfigError(Problem(f"{path}.data", message, evaluation.data))

    def sequences(self) -> list[Sequence[int]]:
        """Return the token sequences that a model reads, as they are before they are cut."""
        return [span.tokens for span in self._spans]

    def reference(self, model: PreTrainedModel, batch_size: int, ranks: Ranks) -> dict[str, Tensor]:
        """Return a ``Reference`` of ``model``, the base, as tensors (a collective)."""
        top = min(self._evaluation.top, model.config.get_text_config().vocab_size)

        def compute(span: _Span, logits: Tensor, index: int) -> tuple[Tensor, Tensor, Tensor]:
            logprobs = logits.log_softmax(dim=-1)  # [P, V]
            best, tokens = logprobs.topk(top, dim=-1)  # [P, top]
            return tokens.int().cpu(), best.cpu(), _rest(logprobs, tokens).cpu()

        tokens, logprobs, rest = zip(*self._map(compute, model, batch_size, ranks), strict=True)
        found = Reference(
            torch.cat(tokens), torch.cat(logprobs), torch.cat(rest), self._fingerprint()
        )
        return found.tensors()

    def base_score(self, model: PreTrainedModel) -> Score:
        """Return the score of the base against itself: 0 everywhere."""
        return self._score(model, [0.0] * len(self._spans))

    def score_against(
        self, base: dict[str, Tensor], model: PreTrainedModel, batch_size: int, ranks: Ranks
    ) -> Score:
        """Return the divergence of ``model`` from the base (a collective).

        Raises:
            ConfigError: The base was given other tokens than ``model``.
        """
        reference = Reference(**base)
        if not torch.equal(reference.records, self._fingerprint()):
            message = "the base reads other tokens: KL needs models with the same tokenizer"
            raise ConfigError(Problem(self._path, message))
        starts = [0, *accumulate(span.count for span in self._spans)]

        def compute(span: _Span, logits: Tensor, index: int) -> float:
            part = slice(starts[index], starts[index + 1])
            tokens = reference.tokens[part].long().to(logits.device)
            logprobs = logits.log_softmax(dim=-1)
            there = torch.cat([reference.logprobs[part], reference.rest[part, None]], dim=-1)
            rest = _rest(logprobs, tokens)[:, None]
            here = torch.cat([logprobs.gather(-1, tokens), rest], dim=-1)
            return _divergence(there.double(), here.cpu().double())

        sums = self._map(compute, model, batch_size, ranks)
        counts = [max(span.count, 1) for span in self._spans]
        means = [total / count for total, count in zip(sums, counts, strict=True)]
        return self._score(model, means)

    def _score(self, model: PreTrainedModel, means: list[float]) -> Score:
        # A model that knows nothing, uniform over the vocabulary, is at most this far away.
        worst = math.log(model.config.get_text_config().vocab_size)
        weights = [span.count for span in self._spans]
        return Score.of("kl", means, worst=worst, weights=weights)

    def _map(self, compute: Any, model: PreTrainedModel, batch_size: int, ranks: Ranks) -> Any:
        """Return ``compute(span, logits, index)`` of every span, in order (a collective)."""
        limit = context_length(model)
        if limit is not None and any(len(span.tokens) > limit + 1 for span in self._spans):
            message = f"is more than the {limit} positions of the model"
            given = self._evaluation.max_length
            raise ConfigError(Problem(f"{self._path}.max_length", message, given))

        def run(batch: list[int]) -> list[Any]:
            spans = [self._spans[index] for index in batch]
            logits = sequence_logits(model, [span.tokens for span in spans])
            return [
                compute(span, span.rows(own), index)
                for span, own, index in zip(spans, logits, batch, strict=True)
            ]

        return map_batches(run, [len(span.tokens) for span in self._spans], batch_size, ranks)

    def _fingerprint(self) -> Tensor:
        content = json.dumps([[span.tokens, span.start, span.stop] for span in self._spans])
        return torch.tensor(list(hashlib.sha256(content.encode()).digest()), dtype=torch.uint8)


def _span(evaluation: Divergence, passage: Passage, tokenizer: PreTrainedTokenizerBase) -> _Span:
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
    return _Span(tokens, first, max(first, border))


def _rest(logprobs: Tensor, tokens: Tensor) -> Tensor:
    """Return the log of the probability outside of ``tokens`` [P, top], [P]."""
    others = logprobs.scatter(-1, tokens, -math.inf)
    return others.logsumexp(dim=-1)


def _divergence(there: Tensor, here: Tensor) -> float:
    """Return the sum over positions of KL(there || here), both log-probabilities [P, top + 1]."""
    terms = there.exp() * (there - here)
    # What the base holds impossible adds nothing, whatever the other model thinks of it.
    return float(terms.where(there > -math.inf, torch.zeros(())).sum())
