"""The tokenised training set: made once, kept on disk, mapped into the memory of every trial."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hft_ray.data.encode import Encoded
from hft_ray.data.packing import pack

Ints = NDArray[np.int32]

_ARRAYS = ("input_ids", "labels", "positions", "ends", "answer_tokens")
_COUNTS = ("packed", "dropped", "cut", "endless")


@dataclass(frozen=True)
class TrainingSet:
    """n sequences with T tokens in all, one after the other in flat arrays.

    Attributes:
        input_ids: Token ids, [T].
        labels: Labels, -100 where not trained, not shifted, [T].
        positions: Position of each token in its own example, [T].
        ends: Where each sequence ends in the flat arrays, [n].
        answer_tokens: Trained target positions after the shift, per sequence, [n].
        packed: Whether a sequence may hold several examples.
        dropped: Examples left out because no trained token was left of them.
        cut: Examples longer than the maximal length, cut at the end.
        endless: Examples in which nothing after an answer says that it ends.
        identity: Hash of all that it was made of; empty before it is saved.
    """

    input_ids: Ints
    labels: Ints
    positions: Ints
    ends: NDArray[np.int64]
    answer_tokens: NDArray[np.int64]
    packed: bool
    dropped: int
    cut: int
    endless: int = 0
    identity: str = ""

    @property
    def tokens(self) -> int:
        """Number of tokens, T."""
        return len(self.input_ids)

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, index: int) -> dict[str, NDArray[np.int64]]:
        """Return ``input_ids``, ``labels`` and, if packed, ``position_ids`` of one sequence."""
        end = int(self.ends[index])
        start = int(self.ends[index - 1]) if index % len(self) else 0
        names = {"input_ids": self.input_ids, "labels": self.labels}
        if self.packed:
            names["position_ids"] = self.positions
        return {name: array[start:end].astype(np.int64) for name, array in names.items()}

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


def assemble(examples: Iterable[Encoded], max_length: int, packing: bool) -> TrainingSet | None:
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
    lengths = [len(ids) for ids, _ in kept]
    sequences = pack(lengths, max_length) if packing else [[index] for index in range(len(kept))]
    order = [index for sequence in sequences for index in sequence]
    return TrainingSet(
        input_ids=np.concatenate([kept[index][0] for index in order]),
        labels=np.concatenate([kept[index][1] for index in order]),
        positions=np.concatenate([np.arange(lengths[index], dtype=np.int32) for index in order]),
        ends=np.cumsum(_sums(sequences, lengths)),
        answer_tokens=_sums(sequences, answers),
        packed=packing,
        dropped=dropped,
        cut=cut,
        endless=endless,
    )


def _sums(sequences: Sequence[Sequence[int]], values: Sequence[int]) -> NDArray[np.int64]:
    sums = [sum(values[index] for index in sequence) for sequence in sequences]
    return np.array(sums, dtype=np.int64)
