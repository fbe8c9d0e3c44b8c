"""A model for lm-eval, run by this project's scorers.

lm-eval builds the same requests on every rank; here they are dealt out over the ranks, so that
results do not depend on their number, the batch size, or the ZeRO stage. Tokens are those of
lm-eval's own adapter for transformers. Imported only where the extra ``lm-eval`` is installed.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from lm_eval.api.model import LM
from lm_eval.utils import get_rolling_token_windows
from torch import Tensor

from hft_ray.data import encode_text
from hft_ray.data.chat import require_template
from hft_ray.evaluation.continuation import Decoding, continuations
from hft_ray.evaluation.sharding import context_length, map_batches
from hft_ray.evaluation.tokens import Span, predictions, target_logprobs
from hft_ray.ranks import Ranks

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

MAX_NEW_TOKENS = 256
"""Longest answer where a task says nothing, as in lm-eval."""
UNLIMITED = 2048
"""Window of a text where the model has no limit, as in lm-eval."""


class LiveModel(LM):
    """A model in memory.

    Args:
        model: The model, in evaluation mode.
        tokenizer: Its tokenizer.
        batch_size: Sequences of the greatest length that a batch has room for.
        ranks: The processes that score together.
        path: Place of the evaluation in FILE, for errors.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        batch_size: int,
        ranks: Ranks,
        path: str,
    ) -> None:
        super().__init__()
        self._model, self._tokenizer = model, tokenizer
        self._batch_size, self._ranks, self._path = batch_size, ranks, path
        start = tokenizer.bos_token_id
        self._prefix: int = tokenizer.eos_token_id if start is None else start

    def loglikelihood(self, requests: list[Any]) -> list[tuple[float, bool]]:
        """Return of every (context, continuation) the log-likelihood, and whether it is greedy."""
        return self._likelihoods([self._pair(*request.args) for request in requests])

    def loglikelihood_rolling(self, requests: list[Any]) -> list[float]:
        """Return the log-likelihood of every text, its first token predicted from the prefix."""
        length = context_length(self._model) or UNLIMITED
        owners: list[int] = []
        windows: list[tuple[list[int], int]] = []
        for index, request in enumerate(requests):
            tokens = encode_text(self._tokenizer, request.args[0])
            for fed, predicted in get_rolling_token_windows(tokens, self._prefix, length, 1):
                windows.append(([*fed, predicted[-1]], len(predicted)))
                owners.append(index)
        sums = [0.0] * len(requests)
        for owner, (loglik, _) in zip(owners, self._likelihoods(windows), strict=True):
            sums[owner] += loglik
        return sums

    def generate_until(self, requests: list[Any]) -> list[str]:
        """Return the greedy continuation of every context, cut at the first stop."""
        alike: defaultdict[tuple[int, tuple[str, ...]], list[int]] = defaultdict(list)
        for index, request in enumerate(requests):
            settings = request.args[1]
            until = settings.get("until") or ()
            stops = (until,) if isinstance(until, str) else tuple(stop for stop in until if stop)
            alike[settings.get("max_gen_toks", MAX_NEW_TOKENS), stops].append(index)
        texts = [""] * len(requests)
        for (new, stops), indices in alike.items():
            prompts = [encode_text(self._tokenizer, requests[index].args[0]) for index in indices]
            decoding = Decoding(new, stops, f"{self._path} (max_gen_toks of the task)")
            found = continuations(
                self._model, self._tokenizer, prompts, decoding, self._batch_size, self._ranks
            )
            for index, text in zip(indices, found, strict=True):
                texts[index] = text
        return texts

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """Return a dialogue as text."""
        require_template(self._tokenizer)
        text: str = self._tokenizer.apply_chat_template(
            chat_history,
            tokenize=False,
            add_generation_prompt=add_generation_prompt,
            continue_final_message=not add_generation_prompt,
        )
        return text

    @property
    def tokenizer_name(self) -> str:
        """Name of the tokenizer, for lm-eval's caches, which are not used."""
        name: str = self._tokenizer.name_or_path
        return name

    def _pair(self, context: str, continuation: str) -> tuple[list[int], int]:
        """Return the tokens of both and how many are the continuation's."""
        if context:
            whole = encode_text(self._tokenizer, context + continuation)
            # White space at the context's end goes to the continuation.
            before = len(encode_text(self._tokenizer, context.rstrip()))
            return whole, max(len(whole) - before, 1)
        ids: list[int] = self._tokenizer(continuation, add_special_tokens=False)["input_ids"]
        own = ids[1:] if ids[:1] == [self._prefix] else ids
        return [self._prefix, *own], len(own)

    def _likelihoods(self, pairs: list[tuple[list[int], int]]) -> list[tuple[float, bool]]:
        """Return log-likelihood and greediness of the last ``count`` tokens of each sequence."""
        limit = context_length(self._model)
        # What the model has no positions for is cut from the left; the last token is not fed.
        start = 0 if limit is None else -(limit + 1)
        spans = [Span.last(tokens[start:], count) for tokens, count in pairs]

        def look(logits: Tensor, targets: Tensor, places: slice) -> tuple[Tensor, Tensor]:
            return target_logprobs(logits, targets), logits.argmax(dim=-1) == targets

        def compute(batch: list[int]) -> list[tuple[float, bool]]:
            found = predictions(self._model, [spans[index] for index in batch], look)
            return [(float(own.double().sum()), bool(greedy.all())) for own, greedy in found]

        return map_batches(
            compute, [len(span.tokens) for span in spans], self._batch_size, self._ranks
        )
