"""YAML from files of unknown origin: plain values only, and a bounded number of them.

Stricter than PyYAML in two ways: a key may stand in a mapping once (as the YAML specification has
it, 1.2.2, section 3.2.1.3), and a key is text.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import yaml

MOST_CHARACTERS = 4_000_000
MOST_VALUES = 200_000
"""Values of a file, aliases written out: a few lines of aliases can stand for billions."""
DEEPEST = 100

_TEXT, _MERGE = "tag:yaml.org,2002:str", "tag:yaml.org,2002:merge"

# The compiled loader, where PyYAML has it, is ten times as fast.
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_yaml(text: str) -> Any:
    """Return the one document in ``text``.

    Raises:
        yaml.YAMLError: The text is not YAML, or too large; the message says which.
    """
    if len(text) > MOST_CHARACTERS:
        raise yaml.YAMLError(f"{len(text)} characters are more than {MOST_CHARACTERS}")
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        if _values(node, {}, 0) > MOST_VALUES:
            raise yaml.YAMLError(f"with its aliases it has more than {MOST_VALUES} values")
        if wrong := list(_wrong_keys(loader, node, "", set())):
            raise yaml.YAMLError("; ".join(wrong))
        return loader.construct_document(node)
    except RecursionError as error:
        raise yaml.YAMLError("it is nested too deeply") from error
    except (ValueError, LookupError, AttributeError, TypeError) as error:
        # A date that does not exist, a character that has no meaning, a tag that does not fit.
        raise yaml.YAMLError(str(error)) from error
    finally:
        loader.dispose()


def _values(node: Any, known: dict[int, int], depth: int) -> int:
    """Return how many values a node stands for, each alias counted in full."""
    if depth > DEEPEST:
        raise yaml.YAMLError(f"it is nested more than {DEEPEST} deep, or holds itself")
    if id(node) not in known:
        parts: list[Any] = node.value if isinstance(node, yaml.SequenceNode) else []
        if isinstance(node, yaml.MappingNode):
            parts = [part for pair in node.value for part in pair]
        known[id(node)] = 1 + sum(_values(part, known, depth + 1) for part in parts)
    return known[id(node)]


def _wrong_keys(loader: Any, node: Any, path: str, seen: set[int]) -> Iterator[str]:
    """Yield what is wrong with the keys of all mappings from ``node`` on, in words."""
    if id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield from _wrong_keys(loader, item, f"{path}{index}.", seen)
    elif isinstance(node, yaml.MappingNode):
        lines: defaultdict[str, list[int]] = defaultdict(list)
        for key, value in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                yield f"line {line} has a list or mapping where a key must stand"
                continue
            if key.tag != _TEXT:
                if key.tag != _MERGE:
                    yield _not_text(loader, key, path)
            else:
                lines[key.value].append(line)
            yield from _wrong_keys(loader, value, f"{path}{key.value}.", seen)
        for name, found in lines.items():
            if len(found) > 1:
                times = "twice" if len(found) == 2 else f"{len(found)} times"
                *first, last = map(str, found)
                where = f"{', '.join(first)} and {last}"
                yield f"{path}{name} is given {times}, in lines {where}; keep one of them"


def _not_text(loader: Any, key: Any, path: str) -> str:
    """Say of a key that YAML takes it for something other than text, and for what."""
    meant = loader.construct_object(key)
    shown = str(meant).lower() if isinstance(meant, bool) else "null" if meant is None else meant
    return (
        f"the key {path}{key.value} in line {key.start_mark.line + 1} is not text: "
        f"YAML reads it as {shown}; put it in quotes"
    )
