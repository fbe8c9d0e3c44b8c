"""The forecast of forgetting: forward KL(base || tuned) on the task's own examples.

Shenfeld et al., "RL's Razor" (arXiv 2509.04259), find that it predicts what is forgotten, where
distances between weights do not. With p the base's distribution of the next token and q the
model's, it is the mean over the N trained tokens t of some of the examples

    1/N sum_t sum_v p_v log (p_v / q_v),   in nats per token

Of p the 64 likeliest tokens are kept one by one, all others as one outcome: the value is a lower
bound, see ``kl_to_base``. It is measured on padded batches, whatever training does.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from hft_ray.config import Config
from hft_ray.data import Mixture, TrainingSet, as_batch, joined, on_device
from hft_ray.evaluation.sharding import map_batches, scoring
from hft_ray.pareto.points import FORECAST
from hft_ray.ranks import Ranks
from hft_ray.training.base_tokens import BaseTokens
from hft_ray.training.kl_to_base import HeldToBase, forward, look_for
from hft_ray.training.loss import BASE, look_at_answers
from hft_ray.training.reference import ReferenceStore
from hft_ray.training.workspace import Workspace

_TOP = 64


class Forecast:
    """Measures how far a model has moved from the base on some examples. Methods are collectives.

    Args:
        data: The examples.
        pad_id: Token id of padding.
        store: Where is kept what the base says of them.
        batch_size: Examples of the greatest length in a pass.
        ranks: The processes of the run.
    """

    def __init__(
        self,
        data: TrainingSet | Mixture,
        pad_id: int,
        store: ReferenceStore,
        batch_size: int,
        ranks: Ranks,
    ) -> None:
        self._data, self._pad_id = data, pad_id
        self._batch_size, self._ranks = batch_size, ranks
        said = BaseTokens(data, pad_id, store, batch_size, f"top {_TOP}", look_for(_TOP))
        self._base = HeldToBase(said, 1.0, "forward")

    def ask(self, model: Any, base: str) -> None:
        """Ask ``model``, the base, or know what it said before; ``base`` as for ``BaseTokens``."""
        self._base.ask(model, self._ranks, base, packed=False)

    def measure(self, model: Any) -> dict[str, float]:
        """Return the metric of ``model``, the same on every rank."""
        device = next(model.parameters()).device
        counts = self._data.answer_tokens

        def compute(numbers: list[int]) -> list[float]:
            items = [self._data[number] for number in numbers]
            fields = self._base.fields((number, None) for number in numbers)
            batch = on_device(as_batch(items, self._pad_id, False) | fields, device)
            found = _divergences(model, batch)
            cuts = np.cumsum(counts[numbers])[:-1]
            return [float(part.sum()) for part in np.split(found, cuts)]

        with scoring(model):
            lengths = self._data.lengths.tolist()
            sums = map_batches(compute, lengths, self._batch_size, self._ranks)
        return {FORECAST: sum(sums) / int(counts.sum())}


def _divergences(model: Any, batch: dict[str, Tensor]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return the divergence at each trained position of a batch that has ``BASE``."""
    tokens, base, rest = (batch[name] for name in BASE)
    seen = 0

    def look(logits: Tensor, targets: Tensor) -> Tensor:
        nonlocal seen
        places = slice(seen, seen + len(logits))
        seen = places.stop
        said = tokens[places].long(), base[places], rest[places]
        values, _ = forward(logits.log_softmax(dim=-1), *said)
        return values

    found = [each.double().cpu().numpy() for each in look_at_answers(model, batch, look)]
    return np.concatenate(found)


def make_forecast(config: Config, workspace: Workspace, ranks: Ranks) -> Forecast | None:
    """Return the forecast of a run; None where FILE asks for none.

    The examples are spread evenly over the task's data, with several tasks over those of each.
    """
    count = config.evaluation.forecast
    if not count:
        return None
    sets = workspace.training_sets(config.model, config.training_data)
    own = sets[: max(1, len(config.tasks))]
    shares = [len(part) for part in np.array_split(np.arange(count), len(own))]
    parts = [(each, each.spread(share)) for each, share in zip(own, shares, strict=True)]
    return Forecast(
        joined([(each, taken) for each, taken in parts if len(taken)]),
        workspace.tokenizer(config.model).pad_token_id,
        ReferenceStore(workspace.cache, "tokens"),
        config.evaluation.batch_size,
        ranks,
    )
