"""Which parameter of a model a tensor in a file belongs to.

``from_pretrained`` has rules for it (see :mod:`hft_ray.compat.hf_loading`), which are asked here,
on a model without weights.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from torch import nn

from hft_ray.compat.hf_attributes import ignored_on_load
from hft_ray.compat.hf_loading import KeyRules

# Buffers of former versions that every loader skips (transformers adds these two by hand, too).
_FORMER_BUFFERS = (r"rotary_emb\.inv_freq", r"(^|\.)position_ids$")


@dataclass(frozen=True)
class Place:
    """Where a tensor of a file goes.

    Attributes:
        target: Name in the model's state; a tied parameter has several.
        part: Which part of the target it is (a renamed key) if the target has several, else "".
        parameter: Name of the parameter as in ``named_parameters()``; None for a buffer.
        splits: The tensor is split over several parameters, of which the target is the first.
    """

    target: str
    part: str
    parameter: str | None
    splits: bool = False


class Placement:
    """The rules for the keys of one model's files."""

    def __init__(self, model: nn.Module) -> None:
        """Take the rules of ``model``, which may be on the meta device."""
        self._rules = KeyRules(model)
        self._state: dict[str, Any] = model.state_dict()
        first: dict[int, str] = {}
        self._parameter = {
            name: first.setdefault(id(parameter), name)
            for name, parameter in model.named_parameters(remove_duplicate=False)
        }
        ignored = (*ignored_on_load(model), *_FORMER_BUFFERS)
        self._ignored = re.compile("|".join(f"({each})" for each in ignored))

    def place(self, key: str) -> Place | None:
        """Return where the tensor ``key`` of a file goes, None if the model has no place for it."""
        target, pattern = self._rules.converted(key, self._state)
        if target not in self._state and key in self._state:
            target, pattern = key, None
        if target not in self._state:
            return Place(target, "", None) if self._ignored.search(target) else None
        part = ""
        if pattern is not None:
            part = self._rules.renamed(key, self._state)
        return Place(target, part, self._parameter.get(target), pattern in self._rules.splitting)

    def places(self, keys: Iterable[str]) -> dict[str, Place | None]:
        """Return the place of each of ``keys``."""
        return {key: self.place(key) for key in keys}
