"""A torch optimizer that steps a changing part of its parameters, and only their state lives.

An optimizer built after freezing never trains what is unfrozen later, and one that goes on holding
what was frozen keeps its moments. So it is built over everything, once, and at each selection its
groups are cut down to the parameters of the draw: the groups themselves stay, and with them what a
learning-rate scheduler and the weight decay know.
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
    """Cuts the groups of ``optimizer`` down, and gives them back whole.

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
        """Make the optimizer whole again, and an ordinary one."""
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
        # What is loaded is a whole optimizer's; a training that broke off left this one cut down.
        self._cut(self.members)
        self._parked = {}
