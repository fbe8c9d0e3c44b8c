"""Reads records (one mapping each) from JSONL, JSON and Parquet files and from the hub."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

from hft_ray.config import ConfigError, Problem
from hft_ray.data.locate import content_hash, locate
from hft_ray.data.problems import Problems
from hft_ray.data.record_values import DEEPEST, flaw, object_of, without_nulls

Record = dict[str, Any]
TURN_LISTS = frozenset(("messages", "conversations", "prompt", "completion", "chosen", "rejected"))
"""Fields that may be turns: a list of them, or a single one."""


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

    def without(self, names: Collection[str]) -> Records:
        """Return the records without some fields, of the record itself and of its turns."""
        if not names:
            return self
        items = (_without(record, names, inner=True) for record in self)
        return Records(self.name, items, self._lines, self._numbers)

    def where(self, index: int) -> str:
        """Name record ``index`` (from 0): ``FILE:LINE``, or its number from 1 without lines."""
        if self._lines is None:
            return f"{self.name}, record {self._numbers[index]}"
        return f"{self.name}:{self._lines[index]}"


def read_records(name: str, *, path: str, split: str, limit: int | None) -> Records:
    """Read the records of a data set.

    Args:
        name: A ``.jsonl``, ``.json`` (one list of objects, or one object per line) or
            ``.parquet`` file, ``package:`` included (see ``locate``), or a hub data set.
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
        records = _from_columns(
            dataset.select(range(count)).to_list, dataset.__getitem__, name, count
        )
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
        item = json.loads(line.decode("utf-8-sig"), object_pairs_hook=object_of)
    except UnicodeDecodeError as error:
        problems.add([Problem(where, f"is not valid UTF-8 at byte {error.start + 1} of the line")])
        return None
    except json.JSONDecodeError as error:
        shown = line.decode("utf-8-sig").rstrip("\r\n")
        message = f"is not valid JSON: {error.msg} at column {error.colno}"
        problems.add([Problem(where, message, shown)])
        return None
    except ValueError as error:
        # Python reads integers of up to 4300 digits.
        problems.add([Problem(where, f"cannot be read: {error}")])
        return None
    except RecursionError:
        problems.add([_too_deep(where)])
        return None
    return _sound(item, where, problems, suspected=_suspected(line))


def _suspected(content: bytes) -> bool:
    """Whether JSON may hold what ``flaw`` finds; quicker than looking at every value."""
    return b"\\u" in content or content.count(b"[") + content.count(b"{") > DEEPEST


def _sound(item: Any, where: str, problems: Problems, *, suspected: bool) -> Record | None:
    """Return a parsed record, or note what is wrong with it and return ``None``."""
    if not isinstance(item, dict):
        problems.add(
            [Problem(where, 'a record must be a JSON object such as {"text": "..."}', item)]
        )
        return None
    message = flaw(item) if suspected else None
    if message is not None:
        problems.add([Problem(where, message)])
        return None
    return item


def _too_deep(where: str) -> Problem:
    return Problem(where, f"is nested more than {DEEPEST} levels deep")


def _read_json(file: Path, name: str, limit: int | None) -> Records:
    content = file.read_bytes()
    try:
        items = json.loads(content.decode("utf-8-sig"), object_pairs_hook=object_of)
    except UnicodeDecodeError as error:
        message = f"is not valid UTF-8 at byte {error.start + 1} of the file"
        raise ConfigError(Problem(name, message)) from None
    except json.JSONDecodeError as error:
        if error.msg == "Extra data":
            # One value after another: one object per line, as in .jsonl.
            return _read_jsonl(file, name, limit)
        message = f"is not valid JSON: {error.msg} at column {error.colno}"
        raise ConfigError(Problem(f"{name}:{error.lineno}", message)) from None
    except ValueError as error:
        raise ConfigError(Problem(name, f"cannot be read: {error}")) from None
    except RecursionError:
        raise ConfigError(_too_deep(name)) from None
    if isinstance(items, dict):
        items = [items]
    if not isinstance(items, list):
        message = "a .json file must hold one list of objects, or one object per line"
        raise ConfigError(Problem(name, message, items))
    problems = Problems(name)
    suspected = _suspected(content)
    for number, item in enumerate(items[:limit], start=1):
        _sound(item, f"{name}, record {number}", problems, suspected=suspected)
    problems.check()
    return Records(name, items[:limit], None)


def _read_parquet(file: Path, name: str, limit: int | None) -> Records:
    import pyarrow
    from pyarrow import parquet

    try:
        table = parquet.read_table(file)
    except (pyarrow.ArrowException, OSError) as error:
        raise ConfigError(Problem(name, f"is not a readable Parquet file: {error}")) from error
    table = table.slice(0, limit)
    return _from_columns(
        table.to_pylist, lambda index: table.slice(index, 1).to_pylist()[0], name, len(table)
    )


def _from_columns(
    whole: Callable[[], list[Record]], one: Callable[[int], Record], name: str, count: int
) -> Records:
    """Return the records of a table, of which ``whole`` gives all and ``one`` a single one."""
    try:
        found = whole()
        items = ({key: without_nulls(item) for key, item in record.items()} for record in found)
        return Records(name, items, None)
    except UnicodeDecodeError:
        problems = Problems(name)
    for index in range(count):
        try:
            one(index)
        except UnicodeDecodeError as error:
            message = f"holds text that is not valid UTF-8: {error.object[:40]!r}"
            problems.add([Problem(f"{name}, record {index + 1}", message)])
    problems.check()
    raise AssertionError("a table that can be read record by record can be read as a whole")


def _without(record: Record, names: Collection[str], *, inner: bool) -> Record:
    """Return a record without some fields; with ``inner``, those of its turns as well."""
    kept = {key: value for key, value in record.items() if key not in names}
    if inner:
        for key in TURN_LISTS & kept.keys():
            kept[key] = _inner(kept[key], names)
    return kept


def _inner(value: Any, names: Collection[str]) -> Any:
    if isinstance(value, list):
        return [_inner(item, names) for item in value]
    return _without(value, names, inner=False) if isinstance(value, dict) else value


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
