"""Scores the greedy continuation of a prompt by its answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from hft_ray.config import Generation
from hft_ray.data import turn_end
from hft_ray.evaluation.continuation import Decoding, continuations
from hft_ray.evaluation.items import Prompt, Shot
from hft_ray.evaluation.prompting import encode_prompt, show
from hft_ray.evaluation.score import Score
from hft_ray.evaluation.text_metrics import compare, extracted, spellings
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
        shown = [show(prompt.prompt, shots, evaluation.chat) for prompt in prompts]
        self._prompts = [
            encode_prompt(tokenizer, text, prompt.where)
            for text, prompt in zip(shown, prompts, strict=True)
        ]
        stops = [form for stop in evaluation.stop for form in spellings(stop)]
        if not all(isinstance(each, str) for each in shown):
            # A special token that ends the turn ends generation anyway.
            stops += filter(None, [turn_end(tokenizer).text])
        self._stops = tuple(stops)

    def sequences(self) -> list[Sequence[int]]:
        """Return the token sequences that a model reads, as they are before they are cut."""
        return list(self._prompts)

    def score(self, model: PreTrainedModel, batch_size: int, ranks: Ranks) -> Score:
        """Return the mean of the evaluation's metric over the prompts (a collective)."""
        evaluation = self._evaluation
        texts = self.continuations(model, batch_size, ranks)
        values = [
            compare(
                evaluation.metric, extracted(evaluation.extract, text), item.answers, item.source
            )
            for text, item in zip(texts, self._items, strict=True)
        ]
        return Score.of(evaluation.metric, values, worst=0.0)

    def continuations(self, model: PreTrainedModel, batch_size: int, ranks: Ranks) -> list[str]:
        """Return the greedy continuation of every prompt, cut at the first stop (a collective).

        Raises:
            ConfigError: ``max_new_tokens`` alone takes all positions of the model.
        """
        evaluation = self._evaluation
        place = f"{self._path}.max_new_tokens"
        decoding = Decoding(evaluation.max_new_tokens, self._stops, place, lead=True)
        return continuations(model, self._tokenizer, self._prompts, decoding, batch_size, ranks)
