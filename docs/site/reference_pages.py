"""Pages of reference, from the schema of FILE, the commands' help and the package's docstrings."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import typer

import hft_ray
from hft_ray.cli.main import app
from hft_ray.config import Config

MADE = "<!-- Made when the site is built; see docs/site/. -->\n\n"


def pages() -> dict[str, str]:
    """Return page -> Markdown."""
    return {
        "reference/settings.md": MADE + settings_page(Config.model_json_schema()),
        "reference/commands.md": MADE + commands_page(),
        "reference/python.md": MADE + python_page(),
    }


def settings_page(schema: dict[str, Any]) -> str:
    """Return a table for each section of FILE, and for each record within one."""
    text = [
        "# Settings of FILE",
        "All settings, as `hft-ray schema` has them for an editor. `--set section.key=value` "
        "overrides one, and `search.space` searches any by its dotted key.",
        _table(schema, schema["$defs"]),
    ]
    for name in _sections(schema):
        section = schema["$defs"][name]
        places = ", ".join(f"`{place}`" for place in _places(schema, name))
        text.append(f"## {name} {{ #{name.lower()} }}")
        text.append(f"At {places}. {_line(section.get('description', ''))}")
        text.append(_table(section, schema["$defs"]))
    return "\n\n".join(text) + "\n"


def _sections(schema: dict[str, Any]) -> list[str]:
    """Return the names of the records in the schema, in the order in which FILE reaches them."""
    found: list[str] = []
    waiting = [schema]
    while waiting:
        names = [name for name in _references(waiting.pop(0)) if name not in found]
        found += dict.fromkeys(names)
        waiting += [schema["$defs"][name] for name in dict.fromkeys(names)]
    return found


def _references(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        if "$ref" in part:
            yield part["$ref"].rpartition("/")[2]
        for key, value in part.items():
            if key not in ("$defs", "discriminator"):
                yield from _references(value)
    elif isinstance(part, list):
        for each in part:
            yield from _references(each)


def _places(schema: dict[str, Any], name: str) -> list[str]:
    """Return the keys that hold a record, each with the record that has the key."""
    found = []
    for owner, section in [("", schema), *schema["$defs"].items()]:
        for key, value in section.get("properties", {}).items():
            if name in _references(value):
                found.append(f"{owner}.{key}" if owner else key)
    return found


def _table(section: dict[str, Any], records: dict[str, Any]) -> str:
    rows = ["| setting | value | default | meaning |", "| --- | --- | --- | --- |"]
    required = section.get("required", [])
    for key, value in section.get("properties", {}).items():
        default = "required" if key in required else _default(value)
        # A section that is a setting of FILE is described where it is defined.
        own = [records[name].get("description", "") for name in _references(value)][:1]
        meaning = _line(value.get("description") or "".join(own))
        rows.append(f"| `{key}` | {_type(value)} | {default} | {meaning} |")
    return "\n".join(rows)


def _default(value: dict[str, Any]) -> str:
    default = value.get("default")
    return "" if default is None else f"`{json.dumps(default)}`"


def _type(value: dict[str, Any]) -> str:
    """Return the values that a setting may have, in words."""
    if "$ref" in value:
        name = value["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "enum" in value:
        return ", ".join(f"`{json.dumps(each)}`" for each in value["enum"])
    if "const" in value:
        return f"`{json.dumps(value['const'])}`"
    if parts := value.get("anyOf") or value.get("oneOf"):
        kinds = dict.fromkeys(_type(each) for each in parts if each.get("type") != "null")
        return " or ".join(kinds)
    match value.get("type"):
        case "array":
            return f"list of {_type(value.get('items', {}))}"
        case "object" if isinstance(more := value.get("additionalProperties"), dict):
            return f"mapping to {_type(more)}"
        case kind:
            return f"{kind or 'any value'}{_bounds(value)}"


def _bounds(value: dict[str, Any]) -> str:
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    found = [f"{sign} {value[key]:g}" for key, sign in signs.items() if key in value]
    return f" {', '.join(found)}" if found else ""


def _line(text: str) -> str:
    """Return text for a cell of a table."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def commands_page() -> str:
    """Return the help of every command."""
    program: Any = typer.main.get_command(app)
    text = ["# Commands", "What `hft-ray COMMAND --help` prints."]
    for name, command in program.commands.items():
        context = typer.Context(command, info_name=f"hft-ray {name}")
        pieces = command.collect_usage_pieces(context)
        text.append(f"## {name}")
        text.append(f"```\nhft-ray {name} {' '.join(pieces)}\n```")
        text += [_paragraph(each) for each in (command.help or "").strip().split("\n\n")]
        text.append(_options(command, context))
    return "\n\n".join(text) + "\n"


def _paragraph(text: str) -> str:
    line = " ".join(text.split())
    example = line.removeprefix("Example: ")
    return line if example == line else f"```\n{example}\n```"


def _options(command: Any, context: typer.Context) -> str:
    rows = ["| argument or option | meaning |", "| --- | --- |"]
    for each in command.params:
        if (record := each.get_help_record(context)) is not None:
            rows.append(f"| `{record[0]}` | {_line(record[1])} |")
    return "\n".join(rows)


def python_page() -> str:
    """Return the page whose content mkdocstrings takes from the docstrings."""
    names = [name for name in hft_ray.__all__ if not name.startswith("__")]
    functions = [name for name in names if name.islower()]
    text = ["# Python interface", "[From Python](../python.md) shows these at work."]
    text += [f"::: hft_ray.{name}" for name in functions]
    text += [_class(name) for name in names if name not in functions]
    return "\n\n".join(text) + "\n"


def _class(name: str) -> str:
    # The fields of FILE have a page of their own.
    return f"::: hft_ray.{name}" + ("\n    options: {members: false}" if name == "Config" else "")
