"""Pydantic's validation errors as this project's problems: a place in FILE and a sentence each."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ValidationError

from hft_ray.config.errors import Problem, nearest
from hft_ray.config.keys import containers, section_models
from hft_ray.config.renamed import renamed_key, renamed_value
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
    location, sections = _walk(item, root)
    path = ".".join(map(str, location)) or "file"
    match item["type"]:
        case "extra_forbidden":
            known = sorted({name for section in sections for name in section.model_fields})
            unknown = f"unknown key{nearest(str(location[-1]), known)}"
            return Problem(path, renamed_key(path) or unknown)
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
        case "literal_error" if (renamed := renamed_value(path, item["input"])) is not None:
            return Problem(path, renamed, item["input"])
        case _:
            return Problem(path, _lower(str(item["msg"])), item.get("input"))


def _lower(message: str) -> str:
    message = message.removeprefix("Input ")
    return message[:1].lower() + message[1:]


def _walk(
    item: dict[str, Any], root: type[BaseModel]
) -> tuple[list[str | int], list[type[BaseModel]]]:
    """Return the path in FILE of one pydantic error, and the sections that may stand at its end.

    Beside fields, keys and indices, pydantic's locations name members of unions, which FILE has
    not.
    """
    *inner, last = item["loc"] or [""]
    path: list[str | int] = []
    sections, keyed = [root], False
    for part in [*inner, last]:
        fields = [each.model_fields[part] for each in sections if part in each.model_fields]
        if keyed:
            path.append(part)
            keyed = False
        elif fields:
            path.append(part)
            sections = [each for field in fields for each in section_models(field.annotation)]
            keyed = any(dict in containers(field.annotation) for field in fields)
        elif isinstance(part, int) or part[:1].isdigit():
            path.append(part)  # in a list; one of a suite is text that begins with its index
    if item["type"] in ("extra_forbidden", "missing") and path[-1:] != [last]:
        path.append(last)
    return path, sections
