"""Reads records (one mapping each) from JSONL, JSON and Parquet files and from the hub."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from hft_ray.config import ConfigError, Problem
from hft_ray.data.location import content_hash, locate
from hft_ray.data.problems import Problems

Record = dict[str, Any]


class Records(list[Record]):
    """Records that know where they were read.

    Attributes:
        name: The file or hub name they were read from.
    """

    def __init__(
        self,
        name: str,
        items: Iterable[Record],
        lines: Sequence[int] | None,
        numbers: Sequence[int] | None = None,
    ) -> None:
        super().__init__(items)
        self.name = name
        self._lines = lines
        self._numbers = range(1, len(self) + 1) if numbers is None else numbers

    def subset(self, indices: Sequence[int]) -> Records:
        """Return some of the records, which still know where they were read."""
        lines = None if self._lines is None else [self._lines[index] for index in indices]
        numbers = [self._numbers[index] for index in indices]
        return Records(self.name, (self[index] for index in indices), lines, numbers)

    def where(self, index: int) -> str:
        """Name record ``index`` (from 0): ``FILE:LINE``, or its number from 1 without lines."""
        if self._lines is None:
            return f"{self.name}, record {self._numbers[index]}"
        return f"{self.name}:{self._lines[index]}"


def read_records(name: str, *, path: str, split: str, limit: int | None) -> Records:
    """Read the records of a data set.

    Args:
        name: A ``.jsonl``, ``.json`` (a list of objects) or ``.parquet`` file, ``package:``
            included (see ``locate``), or a hub data set.
        path: The setting that holds the name, as a dotted path, for errors.
        split: Split of a hub data set.
        limit: Read only the first so many records.

    Raises:
        ConfigError: The file cannot be read as records, or has none; every malformed line is
            named, up to ten.
    """
    file = locate(name, path)
    if file is None:
        dataset = _load_hub(name, path, split)
        count = len(dataset) if limit is None else min(limit, len(dataset))
        records = Records(name, dataset.select(range(count)).to_list(), None)
    elif file.suffix == ".jsonl":
        records = _read_jsonl(file, name, limit)
    elif file.suffix == ".json":
        records = _read_json(file, name, limit)
    elif file.suffix == ".parquet":
        records = _read_parquet(file, name, limit)
    else:
        kind = "a directory" if file.is_dir() else f"a {file.suffix or 'suffixless'} file"
        raise ConfigError(
            Problem(path, f"is {kind}; data is a .jsonl, .json or .parquet file", name)
        )
    if not records:
        raise ConfigError(Problem(path, "the data set is empty: it has no record", name))
    return records


def fingerprint(name: str, *, path: str, split: str) -> str:
    """Return a hash that changes with the records ``read_records`` would read.

    Raises:
        ConfigError: There is no such file, or the hub cannot be reached.
    """
    file = locate(name, path)
    if file is not None:
        return content_hash(file)
    # The paths of the downloaded files hold the commit that they were built from.
    files = sorted(each["filename"] for each in _load_hub(name, path, split).cache_files)
    return hashlib.sha256(json.dumps([name, split, files]).encode()).hexdigest()


def _read_jsonl(file: Path, name: str, limit: int | None) -> Records:
    items: list[Record] = []
    lines: list[int] = []
    problems = Problems(name)
    with file.open("rb") as stream:
        for number, line in enumerate(stream, start=1):
            if limit is not None and len(items) == limit:
                break
            if not line.strip():
                continue
            item = _parse(line, f"{name}:{number}", problems)
            if item is not None:
                items.append(item)
                lines.append(number)
    problems.check()
    return Records(name, items, lines)


def _parse(line: bytes, where: str, problems: Problems) -> Record | None:
    """Parse one line into a record, or note its problem and return ``None``."""
    try:
        # utf-8-sig: editors on Windows put a byte order mark before the first line.
        item = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        problems.add([Problem(where, f"is not valid UTF-8 at byte {error.start + 1} of the line")])
        return None
    except json.JSONDecodeError as error:
        shown = line.decode("utf-8-sig").rstrip("\r\n")
        message = f"is not valid JSON: {error.msg} at column {error.colno}"
        problems.add([Problem(where, message, shown)])
        return None
    if not isinstance(item, dict):
        problems.add([_no_object(where, item)])
        return None
    return item


def _read_json(file: Path, name: str, limit: int | None) -> Records:
    try:
        items = json.loads(file.read_bytes().decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        message = f"is not valid UTF-8 at byte {error.start + 1} of the file"
        raise ConfigError(Problem(name, message)) from None
    except json.JSONDecodeError as error:
        message = f"is not valid JSON: {error.msg} at column {error.colno}"
        raise ConfigError(Problem(f"{name}:{error.lineno}", message)) from None
    if not isinstance(items, list):
        message = "a .json file must hold one list of objects; one object per line is .jsonl"
        raise ConfigError(Problem(name, message, items))
    items = items[:limit]
    problems = Problems(name)
    for number, item in enumerate(items, start=1):
        if not isinstance(item, dict):
            problems.add([_no_object(f"{name}, record {number}", item)])
    problems.check()
    return Records(name, items, None)


def _no_object(where: str, item: Any) -> Problem:
    return Problem(where, 'a record must be a JSON object such as {"text": "..."}', item)


def _read_parquet(file: Path, name: str, limit: int | None) -> Records:
    import pyarrow
    from pyarrow import parquet

    try:
        table = parquet.read_table(file)
    except (pyarrow.ArrowException, OSError) as error:
        raise ConfigError(Problem(name, f"is no readable Parquet file: {error}")) from error
    return Records(name, table.slice(0, limit).to_pylist(), None)


def _load_hub(name: str, path: str, split: str) -> Any:
    """Load one split of a hub data set (or of its copy in the local hub cache)."""
    import datasets

    try:
        return datasets.load_dataset(name, split=split)
    except datasets.exceptions.DatasetNotFoundError as error:
        message = f"neither a file ({Path(name).absolute()}) nor a data set on the hub: {error}"
    except ConnectionError as error:
        message = (
            f"there is no file {Path(name).absolute()}, and the Hugging Face hub, "
            f"where such a name is looked up, is not reachable: {error}"
        )
    except (datasets.exceptions.DatasetsError, OSError, ValueError) as error:
        message = f"split {split!r} of the hub data set cannot be loaded: {error}"
    raise ConfigError(Problem(path, message, name))
