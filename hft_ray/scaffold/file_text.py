"""The text of a first FILE: each line with a comment that says why it is there."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_COLUMN = 44
"""Where comments begin; that of a longer line stands above it."""
_PLAIN = re.compile(r"[A-Za-z./~][\w./@+:-]*(?<!:)", re.ASCII)
_WORDS = {"null", "true", "false", "yes", "no", "on", "off", "y", "n", "."}
"""What YAML 1.1 takes for something other than text."""


@dataclass(frozen=True)
class Line:
    """A setting with its reason.

    Attributes:
        key: Its dotted key; of a list's item the list's key.
        value: Its value.
        why: The comment.
    """

    key: str
    value: Any
    why: str


def file_text(head: str, lines: list[Line]) -> str:
    """Return FILE as YAML.

    Args:
        head: What stands above it, without ``#``.
        lines: Its settings, those of one section together.
    """
    written = [f"# {line}".rstrip() for line in head.splitlines()]
    section = ""
    for line in lines:
        first, _, rest = line.key.partition(".")
        # Keys of search.space and of objectives hold dots of their own.
        inner, _, own = rest.partition(".") if first == "search" else (rest, "", "")
        if first != section:
            written.append("")
            if rest:
                written.append(f"{first}:")
        if own and f"  {inner}:" not in written[_start(written, first) :]:
            written.append(f"  {inner}:")
        indent = "  " * (1 + bool(own)) if rest else ""
        name = own or inner or first
        written += _with_comment(indent, f"{name}: {_yaml(line.value)}", line.why)
        section = first
    return "\n".join(written) + "\n"


def _start(written: list[str], section: str) -> int:
    return max(n for n, line in enumerate(written) if line == f"{section}:")


def _with_comment(indent: str, text: str, why: str) -> list[str]:
    if len(indent) + len(text) <= _COLUMN:
        return [f"{indent + text:{_COLUMN}}  # {why}"]
    return [f"{indent}# {why}", indent + text]


def _yaml(value: Any) -> str:
    """Write a value on one line: JSON, which is YAML, without the quotes that are not needed."""
    if isinstance(value, Mapping):
        inner = ", ".join(f"{key}: {_yaml(each)}" for key, each in value.items())
        return f"{{{inner}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(_yaml, value))}]"
    if isinstance(value, float):
        text = f"{value:.6g}"
        # YAML 1.1 reads 1e-05 as text.
        return text.replace("e", ".0e") if "e" in text and "." not in text else text
    if isinstance(value, str) and _PLAIN.fullmatch(value) and value.lower() not in _WORDS:
        return value
    return json.dumps(value, ensure_ascii=False)
