"""Pydantic's validation errors as this project's problems: a place in FILE and a sentence each."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ValidationError

from hft_ray.config.errors import Problem, nearest
from hft_ray.config.keys import section_models
from hft_ray.config.schema import Config
from hft_ray.config.sections.evaluation import EVALUATIONS


def problems_of(error: ValidationError, root: type[BaseModel] = Config) -> list[Problem]:
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
