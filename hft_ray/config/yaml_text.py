"""YAML from files that may be anybody's: plain values only, and no more of them than fits."""

from __future__ import annotations

from typing import Any

import yaml

MOST_CHARACTERS = 4_000_000
MOST_VALUES = 200_000
"""Values of a file, aliases written out: a few lines of aliases can stand for billions."""
DEEPEST = 100

# The compiled loader, where PyYAML has it, is ten times as fast.
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_yaml(text: str) -> Any:
    """Return the one document in ``text``.

    Raises:
        yaml.YAMLError: It is no YAML, or too much of it; the message says which.
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
        return loader.construct_document(node)
    except RecursionError as error:
        raise yaml.YAMLError("it is nested too deeply") from error
    except ValueError as error:
        # A date that does not exist, a character that has no meaning.
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
