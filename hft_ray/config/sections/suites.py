"""Named suites: lists of evaluations in YAML files, which FILE names instead of repeating them.

A suite is ``hft_ray/suites/NAME.yaml``, or a file of the user's own::

    description: What it measures.
    evaluations:
      - {name: english, kind: perplexity, data: package:hft_ray.suites/english.jsonl}

Its evaluations take the place of the entry of FILE that names it, ``NAME`` or ``{suite: NAME}``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, ValidationError

from hft_ray.config.errors import nearest
from hft_ray.config.sections.section import PositiveInt, Section
from hft_ray.config.yaml_text import read_yaml

_SUFFIX = ".yaml"
_FOLDER = Path(__file__).parents[2] / "suites"


class SuiteEntry(Section):
    """A named suite in the place of its evaluations. ``NAME`` is short for ``{suite: NAME}``."""

    suite: str = Field(min_length=1)
    """A suite of the package, or a .yaml file."""
    limit: PositiveInt | None = None
    """Score only the first so many records of each of its evaluations, never more than it takes."""


class SuiteFile(Section):
    """The content of a suite's file."""

    description: str = ""
    """What it measures."""
    evaluations: list[dict[str, Any]] = Field(min_length=1)
    """Entries as in the evaluation section."""


def suite_names() -> list[str]:
    """Return the names of the suites that the package ships."""
    return sorted(item.stem for item in _FOLDER.glob(f"*{_SUFFIX}"))


def expand(entries: list[Any]) -> tuple[list[Any], list[int | str]]:
    """Put the evaluations of named suites in the places of their names.

    Returns:
        The entries, and for each of them its place: the index in ``entries``, with the file for
        one of a suite.

    Raises:
        ValueError: The suite does not exist, or its file is not a suite.
    """
    expanded: list[Any] = []
    places: list[int | str] = []
    for index, entry in enumerate(entries):
        named = _named(entry)
        if named is None:
            expanded.append(entry)
            places.append(index)
            continue
        path = _path(named.suite)
        for number, own in enumerate(_read(path).evaluations):
            expanded.append({**_limited(own, named.limit), "suite": named.suite})
            places.append(f"{index} ({path}: evaluations.{number})")
    return expanded, places


def _limited(own: dict[str, Any], limit: int | None) -> dict[str, Any]:
    """Return an evaluation of a suite with the smaller of its own limit and FILE's."""
    first = own.get("limit")
    if limit is None or (isinstance(first, int) and first < limit):
        return own
    return {**own, "limit": limit}


def _named(entry: Any) -> SuiteEntry | None:
    """Return what names a suite, ``None`` for an evaluation."""
    if isinstance(entry, str):
        entry = {"suite": entry}
    # What has a kind is an evaluation already; its suite says where it comes from.
    if not isinstance(entry, dict) or "suite" not in entry or "kind" in entry:
        return None
    try:
        return SuiteEntry.model_validate(entry)
    except ValidationError as error:
        raise ValueError(f"a suite is named by {{suite: NAME, limit: N}}: {_said(error)}") from None


def _path(name: str) -> Path:
    if name.endswith(_SUFFIX):
        path = Path(name).expanduser()
        if not path.is_file():
            raise ValueError(f"no such suite file: {path.absolute()}")
        return path
    known = suite_names()
    if name not in known:
        message = f"no suite is called {name!r}; known are {', '.join(known)}"
        raise ValueError(f"{message}{nearest(name, known)}")
    return _FOLDER / f"{name}{_SUFFIX}"


def _read(path: Path) -> SuiteFile:
    try:
        content = read_yaml(path.read_text(encoding="utf-8"))
        return SuiteFile.model_validate(content)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"the suite file {path} cannot be read: {error}") from error
    except ValidationError as error:
        raise ValueError(f"the suite file {path} is not as it should be: {_said(error)}") from None


def _said(error: ValidationError) -> str:
    return "; ".join(
        ".".join(map(str, each["loc"])) + f" {each['msg'].removeprefix('Input ')}"
        for each in error.errors(include_url=False)
    )
