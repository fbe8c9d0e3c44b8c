"""Preference pairs as tokens, cached as the other data.

Each answer is tokenised after its prompt as for training (see ``encode`` and ``border``): the
prompt's tokens are those that the model is asked with, the same for both answers; all after them is
the answer. TRL's DPOTrainer gives the same tokens, except where the prompt ends with white space or
a token would cross its end. A text ends with the end-of-sequence token. What is longer than
``max_length`` tokens is cut at the end, so that a long prompt takes the room of its answers; a pair
of which an answer has no token left, or whose two answers are then the same, is left out.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from hft_ray.config import ConfigError, Data, Problem
from hft_ray.data.batches import Item, collate, concatenate
from hft_ray.data.cache import (
    SETTING,
    SETTINGS,
    describe_tokenizer,
    once,
    read_data,
)
from hft_ray.data.chat import render_answers, require_template
from hft_ray.data.dataset import TrainingSet, assemble
from hft_ray.data.encode import Encoded, encode, encode_turns
from hft_ray.data.examples import Pair, Text, TextPair
from hft_ray.data.preference import convert_pairs, require_preferences
from hft_ray.data.problems import Problems, placed
from hft_ray.data.records import Records, fingerprint
from hft_ray.data.turn import warn_of_endless

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Part of the cache key: raise it when the same data would be encoded otherwise than before.
_VERSION = 4

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PairSet:
    """n tokenised pairs.

    Attributes:
        sequences: Prompt and answer as one sequence, [2n]: chosen at 2i, rejected at 2i + 1.
    """

    sequences: TrainingSet

    def __len__(self) -> int:
        return len(self.sequences) // 2

    def __getitem__(self, index: int) -> tuple[Item, Item]:
        """Return the sequence of the chosen and that of the rejected answer of a pair."""
        return self.sequences[2 * index], self.sequences[2 * index + 1]

    @property
    def lengths(self) -> list[int]:
        """Tokens of the longer sequence of each pair, [n]."""
        lengths: list[int] = self.sequences.lengths.reshape(-1, 2).max(1).tolist()
        return lengths

    @property
    def identity(self) -> str:
        """Hash of all that the set was made of."""
        return self.sequences.identity


def encode_answers(
    tokenizer: PreTrainedTokenizerBase, pair: Pair, max_length: int
) -> tuple[Encoded, Encoded]:
    """Tokenise a pair and label the tokens of its answers (see the module).

    Raises:
        ConfigError: The pair is a dialogue that the chat template is missing for, or refuses.
    """
    if isinstance(pair, TextPair):
        first, second = (
            encode(tokenizer, Text(((pair.prompt, False), (answer, True))), max_length)
            for answer in (pair.chosen, pair.rejected)
        )
        return first, second
    border, wholes = render_answers(tokenizer, pair)
    answers = (pair.chosen, pair.rejected)
    first, second = (
        encode_turns(tokenizer, whole, [(border, len(whole))], [answer[-1].content], max_length)
        for whole, answer in zip(wholes, answers, strict=True)
    )
    return first, second


def prepare_pairs(
    data: Data, tokenizer: PreTrainedTokenizerBase, cache: Path, path: str = SETTING
) -> PairSet:
    """Return the tokenised pairs, from ``cache/data/<hash>/`` if they are there.

    Args:
        data: Section ``data`` of FILE, whose ``train`` names preference records.
        tokenizer: The model's fast tokenizer.
        cache: Cache folder of the storage root.
        path: The setting that names the data, for errors.

    Raises:
        ConfigError: The data cannot be read, records are not preference records, the chat template
            cannot render them, or no pair is left.
    """
    parts = {
        "version": ["preference", _VERSION],
        "content": fingerprint(data.train, path=path, split=data.split),
        "settings": data.model_dump(include=set(SETTINGS)),
        "tokenizer": describe_tokenizer(tokenizer),
    }
    key = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
    folder = once(cache / "data", key, lambda: _make(data, tokenizer, path))
    made = TrainingSet.load(folder)
    warn_of_endless(data.train, made.endless, tokenizer)
    return PairSet(made)


def read_pairs(data: Data, path: str = SETTING) -> list[Pair]:
    """Read and check preference records; needs no tokenizer.

    Raises:
        ConfigError: The data cannot be read, or records are not preference records.
    """
    return convert_pairs(_read(data, path))


def _read(data: Data, path: str) -> Records:
    records = read_data(data, path)
    require_preferences(records[0], records.where(0))
    return records


def _make(data: Data, tokenizer: PreTrainedTokenizerBase, path: str) -> TrainingSet:
    """Read and encode the pairs."""
    records, length = _read(data, path), data.max_length
    encoded = list(_encode_all(records, tokenizer, length))
    kept = [pair for pair in encoded if _says_something(pair)]
    made = assemble(each for pair in kept for each in pair)
    if made is None:
        message = (
            f"no pair has two different answers within data.max_length = {length} tokens; raise "
            "it, or look whether chosen and rejected are the same"
        )
        raise ConfigError(Problem(path, message, data.train))
    cut = sum(one.cut or other.cut for one, other in encoded)
    dropped = len(encoded) - len(kept)
    if cut or dropped:
        _log.warning(
            "%s: %d of %d pairs are longer than data.max_length = %d tokens and were cut; %d of "
            "all have an answer without a token left, or the same answer twice, and were dropped",
            *(data.train, cut, len(encoded), length, dropped),
        )
    return replace(made, cut=cut, dropped=dropped)


def _says_something(pair: tuple[Encoded, Encoded]) -> bool:
    one, other = pair
    return bool(one.answer_tokens and other.answer_tokens and one.input_ids != other.input_ids)


def _encode_all(
    records: Records, tokenizer: PreTrainedTokenizerBase, max_length: int
) -> Iterator[tuple[Encoded, Encoded]]:
    """Encode all pairs, and name those that the chat template refuses."""
    problems = Problems(records.name)
    pairs = convert_pairs(records)
    if any(not isinstance(pair, TextPair) for pair in pairs):
        require_template(tokenizer)
    for index, pair in enumerate(pairs):
        try:
            yield encode_answers(tokenizer, pair, max_length)
        except ConfigError as error:
            problems.add(placed(each, records.where(index)) for each in error.problems)
    problems.check()


def collate_pairs(
    pairs: Sequence[tuple[Item, Item]], pad_id: int, packed: bool
) -> dict[str, torch.Tensor]:
    """Put pairs into one batch.

    Args:
        pairs: Pairs of sequences, [B].
        pad_id: Token id of padding.
        packed: Whether all sequences are put into one row, or each into a row of its own.

    Returns:
        What ``concatenate`` or ``collate`` returns, and ``documents``, [rows, T]: which sequence a
        position belongs to, 2i for the chosen and 2i + 1 for the rejected answer of pair i.
    """
    sequences = [sequence for pair in pairs for sequence in pair]
    owners = torch.arange(len(sequences))
    if packed:
        lengths = torch.tensor([len(sequence["input_ids"]) for sequence in sequences])
        return concatenate(sequences) | {"documents": owners.repeat_interleave(lengths)[None]}
    batch = collate(sequences, pad_id)
    return batch | {"documents": owners[:, None].expand_as(batch["input_ids"])}
