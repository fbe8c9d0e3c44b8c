"""The tokenised training set: made once, kept on disk, mapped into the memory of every trial."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hft_ray.data.encode import Encoded

Ints = NDArray[np.int32]

_ARRAYS = ("input_ids", "labels", "ends", "answer_tokens")
_COUNTS = ("dropped", "cut", "endless")


@dataclass(frozen=True)
class TrainingSet:
    """n sequences with T tokens in all, one after the other in flat arrays.

    Attributes:
        input_ids: Token ids, [T].
        labels: Labels, -100 where not trained, not shifted, [T].
        ends: Where each sequence ends in the flat arrays, [n].
        answer_tokens: Trained target positions after the shift, per sequence, [n].
        dropped: Examples left out because no trained token was left of them.
        cut: Examples longer than the maximal length, cut at the end.
        endless: Examples in which nothing after an answer says that it ends.
        identity: Hash of all that it was made of; empty before it is saved.
    """

    input_ids: Ints
    labels: Ints
    ends: NDArray[np.int64]
    answer_tokens: NDArray[np.int64]
    dropped: int
    cut: int
    endless: int = 0
    identity: str = ""

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each sequence, [n]."""
        return np.diff(self.ends, prepend=0)

    @property
    def tokens(self) -> int:
        """Number of tokens, T."""
        return len(self.input_ids)

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, index: int) -> dict[str, NDArray[np.int64]]:
        """Return ``input_ids`` and ``labels`` of one sequence."""
        end = int(self.ends[index])
        start = int(self.ends[index - 1]) if index % len(self) else 0
        names = {"input_ids": self.input_ids, "labels": self.labels}
        return {name: array[start:end].astype(np.int64) for name, array in names.items()}

    def spread(self, count: int) -> NDArray[np.int64]:
        """Return the indices of ``count`` sequences, spread evenly; all where there are fewer."""
        count = min(count, len(self))
        return np.arange(count) * len(self) // max(1, count)

    def save(self, folder: Path) -> None:
        """Write the set into a new ``folder``."""
        folder.mkdir()
        for name in _ARRAYS:
            np.save(folder / f"{name}.npy", getattr(self, name))
        counts = {name: getattr(self, name) for name in _COUNTS}
        (folder / "counts.json").write_text(json.dumps(counts), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> TrainingSet:
        """Map the set in ``folder``, named by its hash, into memory; read when it is used."""
        arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in _ARRAYS}
        counts = json.loads((folder / "counts.json").read_text(encoding="utf-8"))
        return cls(**arrays, **counts, identity=folder.name)


def assemble(examples: Iterable[Encoded]) -> TrainingSet | None:
    """Make a training set of the examples that have a trained token, or None if none has."""
    kept: list[tuple[Ints, Ints]] = []
    answers: list[int] = []
    dropped = cut = endless = 0
    for example in examples:
        cut += example.cut
        endless += not example.ended
        trained = example.answer_tokens
        if trained == 0:
            dropped += 1
            continue
        kept.append((np.array(example.input_ids, np.int32), np.array(example.labels, np.int32)))
        answers.append(trained)
    if not kept:
        return None
    return TrainingSet(
        input_ids=np.concatenate([ids for ids, _ in kept]),
        labels=np.concatenate([labels for _, labels in kept]),
        ends=np.cumsum([len(ids) for ids, _ in kept]),
        answer_tokens=np.array(answers, dtype=np.int64),
        dropped=dropped,
        cut=cut,
        endless=endless,
    )
