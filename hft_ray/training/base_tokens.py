"""What the untouched base says where the tokens of a data set are predicted: asked once, kept."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from hft_ray.data import Mixture, TrainingSet, as_batch, on_device
from hft_ray.evaluation.sharding import map_batches, scoring
from hft_ray.ranks import Ranks
from hft_ray.training.loss import look_at_answers
from hft_ray.training.reference import Numbers, ReferenceStore

Look = Callable[[Tensor, Tensor], Numbers]
"""``look(logits [P, V], targets [P])`` -> what is kept of some positions, an array of P rows."""


class BaseTokens:
    """A row for each trained token of the examples, from the logits of the base.

    Args:
        data: The examples. Of a mixture each sequence is asked about once, however often it comes.
        pad_id: Token id of padding.
        store: Where the rows are kept; of tokens.
        batch_size: Examples of the greatest length in a pass.
        name: What ``look`` gives; a part of the key.
        look: What is kept.
        among: Which examples of a mixture the base is asked about, [examples]; None for all. The
            rows of others are zeros.
    """

    def __init__(
        self,
        data: TrainingSet | Mixture,
        pad_id: int,
        store: ReferenceStore,
        batch_size: int,
        name: str,
        look: Look,
        among: NDArray[np.bool_] | None = None,
    ) -> None:
        self._among, self._counts = among, data.answer_tokens
        self._pad_id, self._store, self._batch_size = pad_id, store, batch_size
        self._name, self._look = name, look
        if isinstance(data, TrainingSet):
            self._parts = [_Part(data, np.arange(len(data)))]
            self._members = np.zeros(len(data), dtype=np.int64)
            self._numbers = np.arange(len(data))
            return
        self._parts, self._members = [], data.members
        self._numbers = np.empty(len(data), dtype=np.int64)
        for member, each in enumerate(data.sets):
            of = data.members == member
            of = of if among is None else of & among
            used, self._numbers[of] = np.unique(data.indices[of], return_inverse=True)
            self._parts.append(_Part(each, used))

    def ask(self, model: Any, ranks: Ranks, base: str | None, packed: bool) -> None:
        """Ask ``model``, the base, or know what it said before (a collective).

        Args:
            model: The base.
            ranks: The processes of the run.
            base: Its weights and number format; None keeps nothing.
            packed: Whether the examples of a pass are one row.
        """
        for part in filter(len, self._parts):
            ask = partial(self._ask, model, ranks, packed, part)
            key = [str(base), part.identity, self._name]
            part.rows = ask() if base is None else self._store.get(key, ranks, ask)

    def rows(self, index: int) -> Numbers:
        """Return the rows of an example, [its trained tokens]."""
        if self._among is not None and not self._among[index]:
            asked = next(part for part in self._parts if len(part))
            return np.zeros(self._counts[index], dtype=asked.rows.dtype)
        part, number = self._parts[self._members[index]], self._numbers[index]
        stop = part.ends[number]
        found: Numbers = part.rows[stop - part.counts[number] : stop]
        return found

    def sums(self, of: Callable[[Numbers], NDArray[np.int64]]) -> NDArray[np.int64]:
        """Return the sums of a number per row over the rows of each example, [examples]."""
        found = np.zeros(len(self._numbers), dtype=np.int64)
        for member, part in enumerate(self._parts):
            among = self._members == member
            if among.any():
                sums = np.add.reduceat(of(part.rows), part.ends - part.counts)
                found[among] = sums[self._numbers[among]]
        return found

    def _ask(self, model: Any, ranks: Ranks, packed: bool, part: _Part) -> Numbers:
        device = next(model.parameters()).device

        def compute(numbers: list[int]) -> list[Numbers]:
            items = [part.data[int(part.used[number])] for number in numbers]
            batch = on_device(as_batch(items, self._pad_id, packed), device)
            rows = np.concatenate(look_at_answers(model, batch, self._look))
            return np.split(rows, np.cumsum(part.counts[numbers])[:-1])

        with scoring(model):
            lengths = part.data.lengths[part.used].tolist()
            found = map_batches(compute, lengths, self._batch_size, ranks)
        return np.concatenate(found)


@dataclass
class _Part:
    """The sequences of a set that are used, [n], and a row for each of their trained tokens."""

    data: TrainingSet
    used: NDArray[np.int64]
    rows: Numbers = field(default_factory=lambda: np.empty(0))

    def __post_init__(self) -> None:
        self.counts = self.data.answer_tokens[self.used]
        self.ends = np.cumsum(self.counts)

    def __len__(self) -> int:
        return len(self.used)

    @property
    def identity(self) -> str:
        """Hash of what was used of what set."""
        if len(self.used) == len(self.data):
            return self.data.identity
        return f"{self.data.identity} {hashlib.sha256(self.used.tobytes()).hexdigest()}"
