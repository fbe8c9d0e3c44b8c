"""The user's data in whatever form it lies: a table, JSON, Parquet, a folder of any, or texts."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hft_ray.config import ConfigError, Problem
from hft_ray.data import Record, Records, locate, read_records

SETTING = "DATA"
_TABLES = {".csv": ",", ".tsv": "\t"}
_READ = (".jsonl", ".json", ".parquet")
_TEXTS = (".txt", ".md")
_TEST_SPLITS = ("test", "validation", "valid", "val", "dev", "eval")
_LONGEST_FIELD = 1 << 24


@dataclass(frozen=True)
class Source:
    """What was read.

    Attributes:
        train: Records to train on.
        test: Records that the user's data hold out; None if they hold out none.
        what: What it is, in words, for FILE's comments.
    """

    train: Records
    test: Records | None
    what: str


def read_source(name: str, test: str | None = None) -> Source:
    """Read the training data, and the held-out part where there is one.

    Args:
        name: A .csv, .tsv, .jsonl, .json or .parquet file; a folder of them with a part for each
            split; a folder that ``datasets.Dataset.save_to_disk`` wrote; .txt and .md files, or a
            folder of them; or a hub data set.
        test: Where the held-out part lies, written likewise.

    Raises:
        ConfigError: Nothing there can be read.
    """
    source = _read(name, SETTING)
    if test is None:
        return source
    return Source(source.train, _read(test, "--test").train, source.what)


def _read(name: str, path: str) -> Source:
    place = locate(name, path)
    if place is None:
        return Source(_from_file(name, path), None, f"the train split of {name}, from the hub")
    if place.is_file():
        return Source(_from_file(str(place), path), None, place.name)
    if any((place / mark).is_file() for mark in ("dataset_info.json", "dataset_dict.json")):
        return _saved(place, path)
    return _folder(place, path)


def _from_file(name: str, path: str) -> Records:
    suffix = Path(name).suffix.lower()
    if suffix in _TABLES:
        return _table(Path(name), _TABLES[suffix])
    if suffix in _TEXTS:
        return _texts([Path(name)], path)
    return read_records(name, path=path, split="train", limit=None)


def _table(file: Path, delimiter: str) -> Records:
    """Read a table whose first row names the columns; every value is text, empty ones are null."""
    csv.field_size_limit(_LONGEST_FIELD)
    items: list[Record] = []
    lines: list[int] = []
    try:
        # utf-8-sig: spreadsheets put a byte order mark first.
        with file.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream, delimiter=delimiter, strict=True)
            for row in reader:
                if None in row or None in row.values():
                    raise _odd_row(file, reader.line_num, len(reader.fieldnames or ()))
                items.append({key: value or None for key, value in row.items()})
                lines.append(reader.line_num)
    except (csv.Error, UnicodeDecodeError) as error:
        message = f"cannot be read as a table in UTF-8: {error}"
        raise ConfigError(Problem(str(file), message)) from error
    if not items:
        raise ConfigError(Problem(str(file), "has no row below its first, which names the columns"))
    return Records(str(file), items, lines)


def _odd_row(file: Path, line: int, columns: int) -> ConfigError:
    message = f"the row that ends here does not have {columns} values, as the first row has"
    return ConfigError(Problem(f"{file}:{line}", message))


def _texts(files: list[Path], path: str) -> Records:
    """Read whole texts, a record each."""
    items = []
    for file in files:
        try:
            items.append({"text": file.read_text(encoding="utf-8-sig")})
        except UnicodeDecodeError as error:
            raise ConfigError(Problem(str(file), f"is not valid UTF-8: {error}")) from error
    found = [each for each in items if each["text"].strip()]
    if not found:
        raise ConfigError(Problem(path, "the texts are empty", str(files[0].parent)))
    return Records(str(files[0].parent if len(files) > 1 else files[0]), found, None)


def _saved(folder: Path, path: str) -> Source:
    """Read what ``save_to_disk`` of the library datasets wrote."""
    import datasets

    try:
        loaded = datasets.load_from_disk(str(folder))
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        message = f"cannot be read as a saved data set: {error}"
        raise ConfigError(Problem(path, message, str(folder))) from error
    splits = dict(loaded) if isinstance(loaded, datasets.DatasetDict) else {"train": loaded}
    parts = {
        name: Records(f"{folder}, {name}", part.to_list(), None) for name, part in splits.items()
    }
    return _of_splits(parts, folder, path)


def _folder(folder: Path, path: str) -> Source:
    """Read a folder of data files, whose names say which split they are, or of texts."""
    files = sorted(each for each in folder.rglob("*") if each.is_file() and each.name[0] != ".")
    data = [each for each in files if each.suffix.lower() in (*_TABLES, *_READ)]
    if not data:
        texts = [each for each in files if each.suffix.lower() in _TEXTS]
        if texts:
            return Source(_texts(texts, path), None, f"{len(texts)} texts in {folder.name}/")
        kinds = ", ".join((*_TABLES, *_READ, *_TEXTS))
        message = f"the folder holds none of {kinds}"
        raise ConfigError(Problem(path, message, str(folder)))
    parts: dict[str, Records] = {}
    for file in data:
        split = next(_splits_in(file.stem), "train")
        found = _from_file(str(file), path)
        parts[split] = Records(str(folder), [*parts.get(split, []), *found], None)
    return _of_splits(parts, folder, path)


def _splits_in(stem: str) -> Iterator[str]:
    words = "".join(letter if letter.isalnum() else " " for letter in stem.lower()).split()
    return (word for word in words if word in ("train", *_TEST_SPLITS))


def _of_splits(parts: dict[str, Records], folder: Path, path: str) -> Source:
    if "train" not in parts:
        message = f"has no split named train, only {', '.join(parts)}"
        raise ConfigError(Problem(path, message, str(folder)))
    held = next((name for name in _TEST_SPLITS if name in parts), None)
    what = f"{folder.name}/" + (f", split {held} held out" if held else "")
    return Source(parts["train"], parts[held] if held else None, what)
