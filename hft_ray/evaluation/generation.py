"""How well the greedy continuation of a prompt fits its answer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import GenerationConfig, StoppingCriteria, StoppingCriteriaList

from hft_ray.config import ConfigError, Generation, Problem
from hft_ray.evaluation.comparison import compare, extracted
from hft_ray.evaluation.items import Prompt, Shot
from hft_ray.evaluation.prompting import encode_prompt, show
from hft_ray.evaluation.score import Score
from hft_ray.evaluation.sharding import context_length, map_batches
from hft_ray.evaluation.tokens import pad
from hft_ray.ranks import Ranks

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class GenerationScorer:
    """Scores the prompts of one evaluation, tokenised once.

    Raises:
        ConfigError: A prompt is a dialogue, and the tokenizer's chat template is missing or
            refuses it.
    """

    def __init__(
        self,
        evaluation: Generation,
        prompts: Sequence[Prompt],
        tokenizer: PreTrainedTokenizerBase,
        path: str,
        shots: Sequence[Shot] = (),
    ) -> None:
        self._evaluation = evaluation
        self._path = path
        self._tokenizer = tokenizer
        self._items = prompts
        self._prompts = [
            encode_prompt(tokenizer, show(prompt.prompt, shots, evaluation.chat), path)
            for prompt in prompts
        ]

    def score(self, model: PreTrainedModel, batch_size: int, ranks: Ranks) -> Score:
        """Return the mean of the evaluation's metric over the prompts (a collective)."""
        evaluation = self._evaluation
        texts = self.continuations(model, batch_size, ranks)
        values = [
            compare(evaluation.metric, extracted(evaluation.extract, text), item)
            for text, item in zip(texts, self._items, strict=True)
        ]
        return Score.of(evaluation.metric, values, worst=0.0)

    def continuations(self, model: PreTrainedModel, batch_size: int, ranks: Ranks) -> list[str]:
        """Return the greedy continuation of every prompt, cut at the first stop (a collective).

        A prompt too long for the model's positions is cut from the left.

        Raises:
            ConfigError: ``max_new_tokens`` alone is as long as what the model has positions for.
        """
        limit, new = context_length(model), self._evaluation.max_new_tokens
        if limit is not None and new >= limit:
            message = f"leaves no room for a prompt: the model has {limit} positions"
            raise ConfigError(Problem(f"{self._path}.max_new_tokens", message, new))
        start = 0 if limit is None else new - limit
        prompts = [prompt[start:] for prompt in self._prompts]
        settings = self._settings(model)

        def compute(batch: list[int]) -> list[str]:
            return self._continue(model, [prompts[i] for i in batch], settings, ranks)

        with _generation_config(model, settings):
            return map_batches(compute, [len(prompt) for prompt in prompts], batch_size, ranks)

    def _continue(
        self, model: PreTrainedModel, prompts: list[list[int]], settings: Any, ranks: Ranks
    ) -> list[str]:
        ids, mask = pad(prompts, settings.pad_token_id, "left")
        width = ids.shape[1]
        stops = _Stops(self._tokenizer, self._evaluation.stop, width)
        output = model.generate(
            ids.to(model.device),
            attention_mask=mask.to(model.device),
            generation_config=settings,
            stopping_criteria=StoppingCriteriaList([stops]),
            synced_gpus=ranks.lockstep and ranks.size > 1,
        )
        return [self._text(row, settings.eos_token_id) for row in output[:, width:].tolist()]

    def _text(self, tokens: list[int], ends: list[int]) -> str:
        """Decode up to the first end token, and cut at the first stop string."""
        end = next((place for place, token in enumerate(tokens) if token in ends), len(tokens))
        # Special tokens stay in the text: a stop string may be one.
        text: str = _decode(self._tokenizer, tokens[:end])
        places = [text.find(stop) for stop in self._evaluation.stop]
        return text[: min((place for place in places if place >= 0), default=len(text))]

    def _settings(self, model: PreTrainedModel) -> Any:
        own, tokenizer = model.generation_config.eos_token_id, self._tokenizer
        listed = own if isinstance(own, list) else [own]
        ends = {end for end in [*listed, tokenizer.eos_token_id] if end is not None}
        return GenerationConfig(
            max_new_tokens=self._evaluation.max_new_tokens,
            do_sample=False,
            num_beams=1,
            use_cache=True,
            eos_token_id=sorted(ends),
            pad_token_id=tokenizer.pad_token_id or 0,
        )


class _Stops(StoppingCriteria):
    """Ends a row whose continuation holds a stop string.

    Only saves time: the text is cut afterwards. So it is enough to look at the last tokens, as many
    as the longest stop string has bytes, since a token has at least one.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, stops: Sequence[str], width: int
    ) -> None:
        self._tokenizer, self._stops, self._width = tokenizer, stops, width
        self._tail = max((len(stop.encode()) for stop in stops), default=0) + 1

    def __call__(self, input_ids: Tensor, scores: Any, **kwargs: Any) -> Tensor:
        start = max(self._width, input_ids.shape[1] - self._tail)
        tails = [_decode(self._tokenizer, row) for row in input_ids[:, start:].tolist()]
        done = [any(stop in tail for stop in self._stops) for tail in tails]
        return torch.tensor(done, device=input_ids.device)


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
