"""Prepares the training set that FILE asks for, at most once per content."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
from filelock import FileLock

from hft_ray.config import ConfigError, Data, Problem
from hft_ray.config.sections.data import RecordFormat
from hft_ray.data.chat import RewrittenTurnsError, one_per_answer, require_template
from hft_ray.data.dataset import TrainingSet, assemble
from hft_ray.data.encode import Encoded, encode
from hft_ray.data.examples import Dialogue, Example
from hft_ray.data.formats import convert_all, detect
from hft_ray.data.problems import Problems, placed
from hft_ray.data.records import Records, fingerprint, read_records
from hft_ray.data.turn import warn_of_endless

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SETTING = "data.train"
# Part of the cache key: raise it when the same data would be encoded otherwise than before.
_VERSION = 4

SETTINGS = ("limit", "subset_seed", "max_length", "ignore_fields")
"""Settings that decide what is made of the records, of any format."""

_log = logging.getLogger(__name__)


def prepare(
    data: Data, tokenizer: PreTrainedTokenizerBase, cache: Path, path: str = SETTING
) -> TrainingSet:
    """Return the tokenised training set, from ``cache/data/<hash>/`` if it is there.

    The hash covers the data's content, the settings, and the tokenizer. Processes that ask for
    the same set at the same time wait for the one that makes it.

    Args:
        data: Section ``data`` of FILE.
        tokenizer: The model's fast tokenizer.
        cache: Cache folder of the storage root.
        path: The setting that names the data, for errors.

    Raises:
        ConfigError: The data cannot be read, records are not of the format, the chat template
            cannot render them, or no example has a trained token.
    """
    folder = once(cache / "data", _key(data, tokenizer, path), lambda: _make(data, tokenizer, path))
    made = TrainingSet.load(folder)
    warn_of_endless(data.train, made.endless, tokenizer)
    return made


def once(root: Path, key: str, make: Callable[[], TrainingSet]) -> Path:
    """Return the folder ``root/KEY`` of what ``make`` gives, which is called if there is none.

    The folder appears only when it is complete; processes that ask at the same time wait.
    """
    root.mkdir(parents=True, exist_ok=True)
    folder = root / key
    with FileLock(root / f"{key}.lock"):
        if not folder.exists():
            made = make()
            with TemporaryDirectory(dir=root, prefix="making-") as place:
                made.save(Path(place, "set"))
                Path(place, "set").replace(folder)
    return folder


def _key(data: Data, tokenizer: PreTrainedTokenizerBase, path: str) -> str:
    parts = {
        "version": _VERSION,
        "content": fingerprint(data.train, path=path, split=data.split),
        "settings": data.model_dump(include={*SETTINGS, "format"}),
        "tokenizer": describe_tokenizer(tokenizer),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def describe_tokenizer(tokenizer: PreTrainedTokenizerBase) -> dict[str, object]:
    """Return all that decides how the tokenizer encodes."""
    if not tokenizer.is_fast:
        return {"name": tokenizer.name_or_path}
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    # Left over from whatever the tokenizer was last called with.
    for leftover in ("padding", "truncation"):
        state.pop(leftover, None)
    special = [tokenizer.bos_token, tokenizer.eos_token]
    return {"state": state, "template": tokenizer.chat_template, "special": special}


def _make(data: Data, tokenizer: PreTrainedTokenizerBase, path: str) -> TrainingSet:
    """Read and encode the data."""
    records = read_data(data, path)
    examples = convert_all(records, _format(data, records))
    encoded = list(_encode_all(records, examples, tokenizer, data.max_length))
    made = assemble(encoded)
    if made is None:
        message = (
            f"no example has a trained token within data.max_length = {data.max_length} tokens; "
            "raise it, or look whether the answers are empty"
        )
        raise ConfigError(Problem(path, message, data.train))
    if made.cut or made.dropped:
        _log.warning(
            "%s: %d of %d examples are longer than data.max_length = %d tokens and were cut; "
            "%d of all have no trained token left and were dropped",
            *(data.train, made.cut, len(encoded), data.max_length, made.dropped),
        )
    return made


def read_examples(data: Data, path: str = SETTING) -> list[Example]:
    """Read and check the records of a training set; needs no tokenizer.

    Raises:
        ConfigError: The data cannot be read, or records are not of the format.
    """
    records = read_data(data, path)
    return convert_all(records, _format(data, records))


def read_data(data: Data, path: str) -> Records:
    """Read the records that are trained on: the first ones, or a random subset of all.

    They are without the fields that FILE lets be ignored.
    """
    drawn = data.limit is not None and data.subset_seed is not None
    limit = None if drawn else data.limit
    records = read_records(data.train, path=path, split=data.split, limit=limit)
    if drawn:
        order = np.random.Generator(np.random.PCG64(data.subset_seed)).permutation(len(records))
        records = records.subset(sorted(int(place) for place in order[: data.limit]))
    return records.without(data.ignore_fields)


def _format(data: Data, records: Records) -> RecordFormat:
    assert data.format != "preference", "these are pairs"
    if data.format != "auto":
        return data.format
    try:
        return detect(records[0])
    except ConfigError as error:
        problems = [Problem(records.where(0), each.message, each.given) for each in error.problems]
        raise ConfigError(problems) from None


def _encode_all(
    records: Records, examples: list[Example], tokenizer: PreTrainedTokenizerBase, max_length: int
) -> Iterator[Encoded]:
    """Encode all examples, and name those that the chat template refuses."""
    if any(isinstance(example, Dialogue) for example in examples):
        require_template(tokenizer)
    problems = Problems(records.name)
    split = 0
    for index, example in enumerate(examples):
        try:
            found = _encode(tokenizer, example, max_length)
        except ConfigError as error:
            problems.add(placed(each, records.where(index)) for each in error.problems)
        else:
            split += len(found) > 1
            yield from found
    problems.check()
    if split:
        _log.warning(
            "%s: the chat template writes earlier turns otherwise once later ones follow; %d of "
            "%d dialogues became one example for each answer, with the turns before it",
            *(records.name, split, len(examples)),
        )


def _encode(tokenizer: PreTrainedTokenizerBase, example: Example, max_length: int) -> list[Encoded]:
    """Encode an example: as a whole, or one answer at a time where the template needs it."""
    try:
        return [encode(tokenizer, example, max_length)]
    except RewrittenTurnsError:
        assert isinstance(example, Dialogue), "texts have no turns"
        return [encode(tokenizer, each, max_length) for each in one_per_answer(example)]
