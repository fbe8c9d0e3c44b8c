"""Reading FILE: YAML, ``--set`` overrides, validation with every problem at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from hft_ray.config.arms import BUILT_IN
from hft_ray.config.combinations import combinations
from hft_ray.config.errors import ConfigError, Problem, nearest
from hft_ray.config.evaluation import EVALUATIONS
from hft_ray.config.keys import place, searchable_keys, section_models, with_settings
from hft_ray.config.schema import Config
from hft_ray.config.section import Section
from hft_ray.config.space import Choices, SpaceEntry
from hft_ray.config.split import by_arm
from hft_ray.config.stopping import stopping_problems
from hft_ray.config.unread import unread_problems
from hft_ray.config.yaml_text import read_yaml

S = TypeVar("S", bound=Section)


def load(path: Path, overrides: Iterable[str] = ()) -> Config:
    """Read FILE and put the ``key=value`` overrides in.

    Args:
        path: A YAML file in the schema of :class:`Config`.
        overrides: ``dotted.key=value`` each; the value is read as YAML.

    Raises:
        ConfigError: Everything that is wrong with the file, together.
    """
    return parse(_text(path), str(path), overrides)


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


def parse(text: str, source: str, overrides: Iterable[str] = ()) -> Config:
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


def _content(text: str, source: str, overrides: Iterable[str]) -> dict[str, Any]:
    """Return what the YAML ``text`` says once the overrides are put in, not validated."""
    try:
        raw = read_yaml(text)
    except yaml.YAMLError as error:
        raise ConfigError(
            Problem("yaml", f"the file is not valid YAML: {error}"), source
        ) from error
    if not isinstance(raw, dict):
        raise ConfigError(Problem("yaml", "the file must be a mapping of sections", raw), source)
    for override in overrides:
        _override(raw, override)
    return raw


def _override(raw: dict[str, Any], override: str) -> None:
    key, equals, value = override.partition("=")
    if not equals or not key:
        raise ConfigError(Problem("--set", "must look like dotted.key=value", override))
    try:
        place(raw, key, read_yaml(value))
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
        raise ConfigError(_problems(error), source) from error
    problems = _search_problems(config)
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
        raise ConfigError(_problems(error, section), section.__name__) from error


def _search_problems(config: Config) -> list[Problem]:
    """Return what is wrong with the searched keys: unknown ones, and values FILE would refuse."""
    if config.search is None:
        return []
    known = searchable_keys()
    problems = _space_problems(config, config.search.space, "search.space")
    for index, assignments in enumerate(config.search.first):
        problems += _given_problems(config, assignments, f"search.first.{index}", known)
    for name, arm in (config.search.arms or {}).items():
        path = f"search.arms.{name}"
        problems += _given_problems(config, arm.set, f"{path}.set", known)
        problems += _assignment_problems(config, BUILT_IN.get(name, {}), path)
        problems += _space_problems(config, arm.space, f"{path}.space")
    return problems or _combination_problems(config)


def _given_problems(
    config: Config, assignments: Mapping[str, Any], path: str, known: list[str]
) -> list[Problem]:
    """Return what is wrong with settings that are given together."""
    unknown = [key for key in assignments if key not in known]
    if not unknown:
        return _assignment_problems(config, assignments, path)
    return [
        Problem(f"{path}.{key}", f"is no setting that a trial can have{_instead(key, known)}")
        for key in unknown
    ]


def _instead(key: str, known: list[str]) -> str:
    """Return what to do about a setting that no trial can have, as far as it is known."""
    parts, _, setting = key.partition(".")
    if parts not in ("stages", "tasks") or not setting:
        return nearest(key, known)
    shared = f"training.{setting.rpartition('.')[2]}"
    if shared not in known:
        return f"; {parts} are the same in all trials"
    return f"; {parts} are the same in all trials: leave it out there and search {shared}"


def _space_problems(config: Config, space: Mapping[str, SpaceEntry], path: str) -> list[Problem]:
    """Return what is wrong with the entries of a space, each by itself."""
    assert config.search is not None
    problems: list[Problem] = []
    known, searched = searchable_keys(), {*config.search.space, *space}
    for key, entry in space.items():
        at = f"{path}.{key}"
        if key not in known:
            problems.append(
                Problem(at, f"is no setting that can be searched{_instead(key, known)}")
            )
            continue
        for other in entry.when or {}:
            if other not in searched or other == key:
                problems.append(Problem(f"{at}.when", "must name another searched setting", other))
        values = entry.choices if isinstance(entry, Choices) else [entry.low, entry.high]
        for value in values:
            problems += _assignment_problems(config, {key: value}, at)
    return problems


def _combination_problems(config: Config) -> list[Problem]:
    """Return the first combination of searched values that FILE would refuse, of each arm."""
    problems: list[Problem] = []
    for name, arm in by_arm(config).items():
        path = "search.space" if name is None else f"search.arms.{name}"
        assert arm.search is not None
        if not arm.search.space:
            given = "sets every searched setting, so that its trials would all be the same"
            problems.append(Problem(path, given))
            continue
        found = (_refused(arm, each, path) for each in combinations(arm))
        problems += next((problem for problem in found if problem), [])
    return problems


def _refused(config: Config, assignments: Mapping[str, Any], path: str) -> list[Problem]:
    hint = "holds values that do not fit together"
    return [
        Problem(path, f"{hint}: {problem.message}; keep them apart with when", assignments)
        for problem in _assignment_problems(config, assignments, path)[:1]
    ]


def _assignment_problems(config: Config, values: Mapping[str, Any], path: str) -> list[Problem]:
    try:
        with_settings(config, values)
    except ValidationError as error:
        return [
            Problem(path, _about(problem, values), problem.given) for problem in _problems(error)
        ]
    return []


def _about(problem: Problem, values: Mapping[str, Any]) -> str:
    """Return what is wrong with an assignment, with its subject where that is another setting."""
    of_these = any(key.startswith(problem.path) or problem.path.startswith(key) for key in values)
    return problem.message if of_these else f"{problem.path} {problem.message}"


def _problems(error: ValidationError, root: type[BaseModel] = Config) -> list[Problem]:
    """Return one problem per place; a value that fits no member of a union is one problem."""
    found: dict[str, Problem] = {}
    for item in error.errors(include_url=False):
        problem = _problem(dict(item), root)
        if (first := found.get(problem.path)) is not None:
            problem = Problem(problem.path, f"{first.message}, or {problem.message}", first.given)
        found[problem.path] = problem
    return list(found.values())


def _problem(item: dict[str, Any], root: type[BaseModel]) -> Problem:
    """Say one pydantic error in the words of this project."""
    # The tags of unions (kind of an evaluation, Interval/Choices) are no part of the user's path.
    tags = (*EVALUATIONS, "interval", "choices")
    artefacts = ("constrained-", "literal[", "function-")
    location = [
        part
        for index, part in enumerate(item["loc"])
        if not str(part).startswith(artefacts)
        and not (part in tags and index in _tag_places(item["loc"]))
    ]
    path = ".".join(str(part) for part in location) or "file"
    match item["type"]:
        case "extra_forbidden":
            known = _siblings(item["loc"], root)
            return Problem(path, f"unknown key{nearest(str(location[-1]), known)}")
        case "missing":
            return Problem(path, "is required and not given")
        case "union_tag_not_found":
            return Problem(f"{path}.kind", f"is required: {', '.join(EVALUATIONS)}")
        case "union_tag_invalid":
            allowed = item["ctx"]["expected_tags"].replace("'", "")
            return Problem(f"{path}.kind", f"must be one of {allowed}", item["ctx"]["tag"])
        case "model_type" | "model_attributes_type" | "dict_type":
            return Problem(path, "must be a mapping of settings", item["input"])
        case "value_error":
            return Problem(path, str(item["msg"]).removeprefix("Value error, "))
        case _:
            return Problem(path, _lower(str(item["msg"])), item.get("input"))


def _tag_places(location: tuple[Any, ...]) -> tuple[int, ...]:
    """Return where in a path the tag of a union may stand."""
    if location[:2] == ("search", "arms"):
        return (5,)
    if location[0] == "tasks":
        return (4,)
    return (3,) if location[0] in ("evaluation", "search") else ()


def _lower(message: str) -> str:
    message = message.removeprefix("Input ")
    return message[:1].lower() + message[1:]


def _siblings(location: tuple[Any, ...], root: type[BaseModel]) -> list[str]:
    """Return the keys that are known where the unknown key stands."""
    models: list[type[BaseModel]] = [root]
    for part in location[:-1]:
        if not isinstance(part, str):
            continue
        inner = [
            found
            for model in models
            if part in model.model_fields
            for found in section_models(model.model_fields[part].annotation)
        ]
        models = inner or models
    return sorted({name for model in models for name in model.model_fields})
