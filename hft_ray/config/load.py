"""Reading FILE: YAML, ``--set`` overrides, validation with every problem at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from hft_ray.config.errors import ConfigError, Problem
from hft_ray.config.keys import place
from hft_ray.config.rules.scheduling import stopping_problems
from hft_ray.config.rules.search_settings import search_problems
from hft_ray.config.rules.unread import unread_problems
from hft_ray.config.schema import Config
from hft_ray.config.sections.section import Section
from hft_ray.config.validation_errors import problems_of
from hft_ray.config.yaml_text import read_yaml

S = TypeVar("S", bound=Section)


def load(
    file: str | Path | Mapping[str, Any], overrides: Iterable[str] | Mapping[str, Any] = ()
) -> Config:
    """Read FILE, or its content as a mapping, and put overrides in.

    Args:
        file: A YAML file in the schema of :class:`Config`, or a mapping in that schema.
        overrides: Dotted key -> value; or ``dotted.key=value`` each, the value read as YAML.

    Raises:
        ConfigError: Everything that is wrong with the settings, together.
    """
    if isinstance(file, Mapping):
        # Copied, since overrides are put into it.
        return validate(_overridden(deepcopy(dict(file)), overrides), "the mapping")
    return parse(_text(Path(file)), str(file), overrides)


def load_to_score(path: Path, model: str, overrides: Iterable[str] = ()) -> Config:
    """Read FILE for its evaluations alone: it needs no ``name``, ``model`` and ``data``.

    Args:
        path: As for :func:`load`.
        model: The model that a FILE without one is about.
        overrides: As for :func:`load`.

    Raises:
        ConfigError: Everything that is wrong with the file, together.
    """
    raw = {"name": "evaluation", "model": model} | _content(_text(path), str(path), overrides)
    data = raw.setdefault("data", {})
    if isinstance(data, dict) and not raw.get("tasks"):
        # Not read here, so what it says does not matter.
        data.setdefault("train", "none")
    return validate(raw, str(path))


def parse(text: str, source: str, overrides: Iterable[str] | Mapping[str, Any] = ()) -> Config:
    """Validate the YAML ``text`` of FILE; ``source`` names it in errors. See :func:`load`."""
    return validate(_content(text, source, overrides), source)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConfigError(Problem(str(path), f"the file cannot be read: {reason}")) from error
    except UnicodeDecodeError as error:
        raise ConfigError(Problem(str(path), f"the file is not UTF-8 text: {error}")) from error


def _content(
    text: str, source: str, overrides: Iterable[str] | Mapping[str, Any]
) -> dict[str, Any]:
    """Return what the YAML ``text`` says once the overrides are put in, not validated."""
    try:
        raw = read_yaml(text)
    except yaml.YAMLError as error:
        raise ConfigError(
            Problem("yaml", f"the file is not valid YAML: {error}"), source
        ) from error
    if not isinstance(raw, dict):
        raise ConfigError(Problem("yaml", "the file must be a mapping of sections", raw), source)
    return _overridden(raw, overrides)


def _overridden(
    raw: dict[str, Any], overrides: Iterable[str] | Mapping[str, Any]
) -> dict[str, Any]:
    """Put the overrides in; return the content."""
    pairs = overrides.items() if isinstance(overrides, Mapping) else map(_assignment, overrides)
    for key, value in pairs:
        place(raw, key, value)
    return raw


def _assignment(override: str) -> tuple[str, Any]:
    key, equals, value = override.partition("=")
    if not equals or not key:
        raise ConfigError(Problem("--set", "must look like dotted.key=value", override))
    try:
        return key, read_yaml(value)
    except yaml.YAMLError as error:
        raise ConfigError(Problem(f"--set {key}", f"the value is not YAML: {error}")) from error


def validate(raw: Mapping[str, Any], source: str) -> Config:
    """Validate the content of FILE, the searched keys and values included.

    Raises:
        ConfigError: Everything that is wrong, together.
    """
    try:
        config = Config.model_validate(raw)
    except ValidationError as error:
        raise ConfigError(problems_of(error), source) from error
    problems = search_problems(config)
    # Needs settings, and arms, that are valid by themselves.
    problems = [*(problems or unread_problems(config)), *stopping_problems(config)]
    if problems:
        raise ConfigError(problems, source)
    return config


def validate_section(section: type[S], raw: Mapping[str, Any]) -> S:
    """Validate one section of FILE by itself.

    Raises:
        ConfigError: Everything that is wrong with it, together.
    """
    try:
        return section.model_validate(raw)
    except ValidationError as error:
        raise ConfigError(problems_of(error, section), section.__name__) from error
