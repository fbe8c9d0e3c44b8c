"""Greedy continuations of prompts: batched, left-padded, with a KV cache, cut at stop strings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import GenerationConfig, StoppingCriteria, StoppingCriteriaList

from hft_ray.config import ConfigError, Problem
from hft_ray.data import end_tokens
from hft_ray.evaluation.sharding import context_length, map_batches
from hft_ray.evaluation.tokens import pad
from hft_ray.ranks import Ranks

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True)
class Decoding:
    """Where a continuation ends.

    Attributes:
        max_new_tokens: Longest continuation in tokens.
        stops: It is cut at the first of these.
        place: The setting of ``max_new_tokens``, as a dotted path, for errors.
        lead: Whether stops count from the first letter on: white space before it ends nothing.
    """

    max_new_tokens: int
    stops: tuple[str, ...]
    place: str
    lead: bool = False


def continuations(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Sequence[int]],
    decoding: Decoding,
    batch_size: int,
    ranks: Ranks,
) -> list[str]:
    """Return the greedy continuation of every prompt, cut at the first stop (a collective).

    A prompt too long for the model's positions is cut from the left.

    Args:
        model: A causal language model in evaluation mode.
        tokenizer: Its tokenizer.
        prompts: Token ids of the prompts, [n].
        decoding: Where to end.
        batch_size: Number of prompts of the greatest length in a batch.
        ranks: The processes that generate together.

    Raises:
        ConfigError: ``max_new_tokens`` alone takes all positions of the model.
    """
    new = decoding.max_new_tokens
    start = _first_token(model, decoding)
    cut = [list(prompt[start:]) for prompt in prompts]
    settings = _settings(model, tokenizer, new)

    def compute(batch: list[int]) -> list[str]:
        ids, mask = pad([cut[index] for index in batch], settings.pad_token_id, "left")
        width = ids.shape[1]
        stops = _Stops(tokenizer, decoding, width)
        output = model.generate(
            ids.to(model.device),
            attention_mask=mask.to(model.device),
            generation_config=settings,
            stopping_criteria=StoppingCriteriaList([stops]),
            synced_gpus=ranks.lockstep and ranks.size > 1,
        )
        new_tokens = output[:, width:].tolist()
        return [_text(tokenizer, row, settings.eos_token_id, decoding) for row in new_tokens]

    with _generation_config(model, settings):
        # What is generated takes room as well.
        return map_batches(compute, [len(prompt) + new for prompt in cut], batch_size, ranks)


def _first_token(model: PreTrainedModel, decoding: Decoding) -> int:
    """Return where prompts are cut, as a slice's start, to leave room for the continuation."""
    limit, new = context_length(model), decoding.max_new_tokens
    if limit is None:
        return 0
    if new >= limit:
        message = f"leaves no room for a prompt: the model has {limit} positions"
        raise ConfigError(Problem(decoding.place, message, new))
    return new - limit


def _text(
    tokenizer: PreTrainedTokenizerBase, tokens: list[int], ends: list[int], decoding: Decoding
) -> str:
    """Decode up to the first end token, and cut at the first stop string."""
    end = next((place for place, token in enumerate(tokens) if token in ends), len(tokens))
    # Special tokens stay in the text: a stop string may be one.
    text = _decode(tokenizer, tokens[:end])
    start = len(text) - len(text.lstrip()) if decoding.lead else 0
    places = [text.find(stop, start) for stop in decoding.stops]
    return text[: min((place for place in places if place >= 0), default=len(text))]


def _settings(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, new: int) -> Any:
    return GenerationConfig(
        max_new_tokens=new,
        do_sample=False,
        num_beams=1,
        use_cache=True,
        eos_token_id=end_tokens(tokenizer, model.generation_config.eos_token_id),
        pad_token_id=tokenizer.pad_token_id or 0,
    )


class _Stops(StoppingCriteria):
    """Ends a row whose continuation holds a stop string.

    Only saves time: the text is cut afterwards. So it is enough to look at the last tokens, as many
    as the longest stop string has bytes, since a token has at least one.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, decoding: Decoding, width: int) -> None:
        self._tokenizer, self._decoding, self._width = tokenizer, decoding, width
        self._tail = max((len(stop.encode()) for stop in decoding.stops), default=0) + 1

    def __call__(self, input_ids: Tensor, scores: Any, **kwargs: Any) -> Tensor:
        rows = input_ids[:, self._width :].tolist()
        return torch.tensor([self._done(row) for row in rows], device=input_ids.device)

    def _done(self, tokens: list[int]) -> bool:
        start = max(0, len(tokens) - self._tail)
        tail = _decode(self._tokenizer, tokens[start:])
        stops = [stop for stop in self._decoding.stops if stop in tail]
        if stops and self._decoding.lead and not _decode(self._tokenizer, tokens[:start]).strip():
            tail = tail.lstrip()
        return any(stop in tail for stop in stops)


@contextmanager
def _generation_config(model: PreTrainedModel, settings: Any) -> Iterator[None]:
    """Make ``settings`` the model's own: what they leave unset would come from the model's file.

    Such files ask for sampling, repetition penalties and the like, which is not greedy decoding.
    """
    own, model.generation_config = model.generation_config, settings
    try:
        yield
    finally:
        model.generation_config = own


def _decode(tokenizer: PreTrainedTokenizerBase, tokens: list[int]) -> str:
    text: str = tokenizer.decode(
        tokens, skip_special_tokens=False, clean_up_tokenization_spaces=False
    )
    return text
