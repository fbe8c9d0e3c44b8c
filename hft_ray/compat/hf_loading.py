"""transformers' rules for the keys of weight files, undocumented; they hold in 5.23 and later 5.x.

A file's key need not be the name of a parameter: GPT-2's published file lacks the prefix
``transformer.``, and Mixtral's holds one tensor per expert where the model has one parameter for
all. ``from_pretrained`` has rules for that (``conversion_mapping.py``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import WeightConverter, WeightRenaming, rename_source_key


class KeyRules:
    """The rules for the keys of one model's files.

    Args:
        model: The model, which may be on the meta device.

    Attributes:
        splitting: Patterns of the keys whose tensor is split over several parameters.
    """

    def __init__(self, model: nn.Module) -> None:
        rules = get_model_conversion_mapping(model)
        self._renamings = [rule for rule in rules if isinstance(rule, WeightRenaming)]
        self._converters = [rule for rule in rules if isinstance(rule, WeightConverter)]
        self._prefix = str(getattr(model, "base_model_prefix", ""))
        self.splitting: set[str] = {
            pattern
            for rule in self._converters
            if len(rule.target_patterns) > 1
            for pattern in rule.source_patterns
        }

    def converted(self, key: str, state: Mapping[str, Any]) -> tuple[str, str | None]:
        """Return the name of ``key`` in ``state``, and the pattern of a conversion if one applies.

        Args:
            key: A key of a file.
            state: The model's state.
        """
        renamed: tuple[str, str | None] = rename_source_key(
            key, self._renamings, self._converters, self._prefix, state
        )
        return renamed

    def renamed(self, key: str, state: Mapping[str, Any]) -> str:
        """Return ``key`` renamed and not converted, without the prefix of the base model."""
        name: str = rename_source_key(key, self._renamings, [], self._prefix, state)[0]
        return name.removeprefix(f"{self._prefix}.")
