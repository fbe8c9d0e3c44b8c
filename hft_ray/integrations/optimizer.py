"""A torch optimizer that steps a changing subset of its parameters and keeps only their state.

An optimizer that is built after freezing never trains what is unfrozen later; one that still holds
frozen parameters keeps their moments. So the optimizer is built once, over all parameters, and at
each selection its groups are reduced to the parameters of the draw. The groups themselves stay, and
with them their learning rates and weight decay.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.optim import Optimizer


@dataclass(frozen=True)
class _Parked:
    """State of one parameter that is not stepped: on the CPU, with the devices it came from."""

    values: dict[str, Any]
    devices: dict[str, torch.device]

    @classmethod
    def of(cls, state: dict[str, Any]) -> _Parked:
        tensors = {key: value for key, value in state.items() if isinstance(value, Tensor)}
        return cls(
            state | {key: value.to("cpu") for key, value in tensors.items()},
            {key: value.device for key, value in tensors.items()},
        )

    def back(self) -> dict[str, Any]:
        return self.values | {key: self.values[key].to(at) for key, at in self.devices.items()}


class PartialOptimizer:
    """Reduces the groups of ``optimizer`` to a selection, and restores them.

    ``optimizer.state_dict()`` is always that of the whole optimizer, with the state that there is:
    one built over everything loads it, whatever was selected when it was saved.

    Args:
        optimizer: Built over every parameter that may be selected.
        moments: What becomes of the optimizer's state at a selection. ``reset``: all of it starts
            empty; ``keep_selected``: kept for what stays selected; ``keep_all``: also kept, on the
            CPU, for what is deselected, and restored when it is selected again.
    """

    def __init__(
        self, optimizer: Optimizer, moments: Literal["reset", "keep_selected", "keep_all"]
    ) -> None:
        self._optimizer = optimizer
        self._moments = moments
        self._members = [list(group["params"]) for group in optimizer.param_groups]
        self._chosen: set[Tensor] = {member for group in self._members for member in group}
        self._parked: dict[Tensor, _Parked] = {}
        self._hooks = [
            optimizer.register_state_dict_pre_hook(lambda _: self._before_saving()),
            optimizer.register_state_dict_post_hook(lambda _, saved: self._after_saving()),
            optimizer.register_load_state_dict_pre_hook(lambda _, loaded: self._before_loading()),
        ]

    @property
    def members(self) -> set[Tensor]:
        """All parameters that the optimizer was built over."""
        return {member for group in self._members for member in group}

    def select(self, chosen: Collection[Tensor], *, resumed: bool = False) -> None:
        """Step ``chosen`` from now on and nothing else.

        Args:
            chosen: Parameters, all of them members.
            resumed: The state was loaded and is that of ``chosen``, which keeps it.
        """
        self._chosen = set(chosen)
        assert self._chosen <= self.members
        state = self._optimizer.state
        if self._moments == "reset" and not resumed:
            state.clear()
        for member in self.members & state.keys() - self._chosen:
            left = state.pop(member)
            if self._moments == "keep_all":
                self._parked[member] = _Parked.of(left)
        for member in self._chosen & self._parked.keys():
            state[member] = self._parked.pop(member).back()
        self._cut(self._chosen)

    def release(self) -> None:
        """Restore the groups and remove the hooks."""
        for member, parked in self._parked.items():
            self._optimizer.state[member] = parked.back()
        self._cut(self.members)
        for hook in self._hooks:
            hook.remove()

    def _cut(self, chosen: set[Tensor]) -> None:
        for group, members in zip(self._optimizer.param_groups, self._members, strict=True):
            group["params"] = [member for member in members if member in chosen]

    def _before_saving(self) -> None:
        self._cut(self.members)
        for member, parked in self._parked.items():
            self._optimizer.state[member] = parked.values

    def _after_saving(self) -> None:
        self._cut(self._chosen)
        for member in self._parked:
            del self._optimizer.state[member]

    def _before_loading(self) -> None:
        # The loaded state is of a whole optimizer; an interrupted training left this one reduced.
        self._cut(self.members)
        self._parked = {}
