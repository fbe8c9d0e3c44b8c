"""Which parameter of a model a tensor in a file belongs to.

A file's key need not be the name of a parameter: GPT-2's published file lacks the prefix
``transformer.``, and Mixtral's holds one tensor per expert where the model has one parameter for
all. ``from_pretrained`` has rules for that (transformers, ``conversion_mapping.py``), and the same
rules are asked here, on a model without weights.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from torch import nn
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import WeightConverter, WeightRenaming, rename_source_key

# Buffers of former versions that every loader skips (transformers adds these two by hand, too).
_FORMER_BUFFERS = (r"rotary_emb\.inv_freq", r"(^|\.)position_ids$")


@dataclass(frozen=True)
class Place:
    """Where a tensor of a file goes.

    Attributes:
        target: Name in the model's state; a tied parameter has several.
        part: Which part of the target it is (a renamed key) if the target has several, else "".
        parameter: Name of the parameter as in ``named_parameters()``; None for what is none.
        splits: The tensor is split over several parameters, of which the target is the first.
    """

    target: str
    part: str
    parameter: str | None
    splits: bool = False


class Naming:
    """The rules for the keys of one model's files."""

    def __init__(self, model: nn.Module) -> None:
        """Take the rules of ``model``, which may be on the meta device."""
        rules = get_model_conversion_mapping(model)
        self._renamings = [rule for rule in rules if isinstance(rule, WeightRenaming)]
        self._converters = [rule for rule in rules if isinstance(rule, WeightConverter)]
        self._splitting = {
            pattern
            for rule in self._converters
            if len(rule.target_patterns) > 1
            for pattern in rule.source_patterns
        }
        self._prefix = str(getattr(model, "base_model_prefix", ""))
        self._state: dict[str, Any] = model.state_dict()
        first: dict[int, str] = {}
        self._parameter = {
            name: first.setdefault(id(parameter), name)
            for name, parameter in model.named_parameters(remove_duplicate=False)
        }
        ignored = getattr(model, "_keys_to_ignore_on_load_unexpected", None) or ()
        self._ignored = re.compile("|".join(f"({each})" for each in (*ignored, *_FORMER_BUFFERS)))

    def place(self, key: str) -> Place | None:
        """Return where the tensor ``key`` of a file goes, None if the model has no place for it."""
        target, pattern = self._renamed(key, self._converters)
        if target not in self._state and key in self._state:
            target, pattern = key, None
        if target not in self._state:
            return Place(target, "", None) if self._ignored.search(target) else None
        part = ""
        if pattern is not None:
            part = self._renamed(key, [])[0].removeprefix(f"{self._prefix}.")
        return Place(target, part, self._parameter.get(target), pattern in self._splitting)

    def _renamed(self, key: str, converters: list[Any]) -> tuple[str, str | None]:
        renamed: tuple[str, str | None] = rename_source_key(
            key, self._renamings, converters, self._prefix, self._state
        )
        return renamed

    def places(self, keys: Iterable[str]) -> dict[str, Place | None]:
        """Return the place of each of ``keys``."""
        return {key: self.place(key) for key in keys}
