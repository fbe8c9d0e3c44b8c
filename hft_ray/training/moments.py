"""Taking Adam's state out of a DeepSpeed engine and putting it into another one, exactly.

An engine holds state for the parameters it was built over, so a re-selection would lose it. Here it
is read and written through DeepSpeed's own accessors, per parameter:

    m, v     first and second moment, fp32 or bf16
    w        fp32 master copy of a bf16 weight; rebuilt from bf16 it would be rounded
    c        with bf16 moments, instead of w: what bf16 loses of the weight (see ``kahan``)
    t        steps that the moments have seen (Adam's bias correction uses it)

Under ZeRO-3 each rank keeps its own part of m, v, w and c, else all of them. t is one number for a
whole flat buffer, so parameters with different t need parameter groups of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from deepspeed.utils import (
    safe_get_full_fp32_param,
    safe_get_full_optimizer_state,
    safe_get_local_fp32_param,
    safe_get_local_optimizer_state,
    safe_set_full_fp32_param,
    safe_set_full_optimizer_state,
    safe_set_local_fp32_param,
    safe_set_local_optimizer_state,
)
from torch import Tensor, nn

from hft_ray.compat.deepspeed import (
    inner_optimizer,
    is_linked,
    own_fragment,
    states_by_group,
    whole_state,
)
from hft_ray.ranks import Ranks
from hft_ray.selection.anatomy import shape, size
from hft_ray.training.kahan import COMPENSATION, KahanAdamW
from hft_ray.training.partitioned import is_partitioned, share

KEYS = ("exp_avg", "exp_avg_sq")
MASTER = "master"


@dataclass(frozen=True)
class Moments:
    """One parameter's optimizer state, on the CPU or still on the device.

    Attributes:
        steps: t, the optimizer steps that the moments have seen.
        tensors: ``exp_avg``, ``exp_avg_sq`` and, for bf16 weights, ``master`` or
            ``compensation``; of this rank's part under ZeRO-3, else of the parameter's shape.
    """

    steps: int
    tensors: dict[str, Tensor]

    def on_cpu(self) -> Moments:
        """Return the same on the CPU."""
        return Moments(self.steps, {key: tensor.cpu() for key, tensor in self.tensors.items()})


def own_parts(
    engine: Any, parameter: nn.Parameter, ranks: Ranks
) -> Iterator[tuple[str, int, Tensor]]:
    """Yield the part of a parameter's state that this rank writes; nothing is copied or exchanged.

    Under ZeRO-1 to 3 it is what the rank's optimizer steps on, else an equal share.

    Yields:
        The key, the place of the first number in the flattened state, and the numbers.
    """
    dtype, keys = _kept(engine, parameter)
    for key in keys:
        if is_linked(parameter):
            found = own_fragment(parameter, None if key == MASTER else key)
        else:
            found = own_part(parameter, _get(engine, parameter, key), ranks)
        if found is not None:
            start, numbers = found
            yield key, start, numbers.to(dtype)


def own_part(parameter: nn.Parameter, state: Tensor, ranks: Ranks) -> tuple[int, Tensor]:
    """Return the part that this rank writes of a state that it holds, and where that begins.

    Args:
        parameter: The parameter.
        state: Of the parameter's shape; under ZeRO-3 this rank's part of it, padded.
        ranks: The processes that train together.
    """
    span = share(size(parameter), ranks)
    flat = state.flatten()
    within = flat[: len(span)] if is_partitioned(parameter) else flat[span.start : span.stop]
    return span.start, within


def held_state(parameter: nn.Parameter, numbers: Tensor, ranks: Ranks) -> Tensor:
    """Return what this rank holds of a state, as :func:`put` takes it.

    Args:
        parameter: The parameter.
        numbers: The state's numbers of :func:`held_span`.
        ranks: The processes that train together.
    """
    if not is_partitioned(parameter):
        return numbers.view(shape(parameter))
    padding = -(-size(parameter) // ranks.size) - len(numbers)
    return nn.functional.pad(numbers, (0, padding))


def take(engine: Any, parameter: nn.Parameter, steps: int, copy: bool = True) -> Moments:
    """Return the parameter's state in ``engine`` (a collective).

    Args:
        engine: DeepSpeed's.
        parameter: A parameter that it trains.
        steps: The optimizer steps that its moments have seen.
        copy: Whether it is a copy on the CPU; else the optimizer's own tensors, for which it must
            be one over the parameters themselves.
    """
    if not copy:
        state = engine.optimizer.state[parameter]
        return Moments(steps, {key: x for key, x in state.items() if key != "step"})
    dtype, keys = _kept(engine, parameter)
    return Moments(steps, {key: _cpu(_get(engine, parameter, key), dtype) for key in keys})


def put(engine: Any, parameter: nn.Parameter, moments: Moments, fresh: bool = False) -> None:
    """Write the parameter's state into ``engine``.

    Args:
        engine: DeepSpeed's; its optimizer has state already.
        parameter: A parameter that it trains.
        moments: Its state.
        fresh: The optimizer has no state yet, and is one over the parameters themselves: it takes
            these tensors for its own.
    """
    if fresh:
        device = parameter.device
        state = {key: value.to(device) for key, value in moments.tensors.items()}
        step = torch.tensor(float(moments.steps), device=device)
        engine.optimizer.state[parameter] = {"step": step, **state}
        return
    for key, value in moments.tensors.items():
        _set(engine, parameter, key, value)


def change_weights(
    engine: Any, parameter: nn.Parameter, change: Callable[[Tensor], Tensor]
) -> None:
    """Give a parameter other values in ``engine`` (a collective below ZeRO-3).

    Args:
        engine: DeepSpeed's; its optimizer has made a step.
        parameter: A whole parameter that it trains.
        change: From the present values, as exactly as they are known, to the new ones.
    """
    _, keys = _kept(engine, parameter)
    weights, rest = parameter.data, None
    if COMPENSATION in keys:
        rest = _get(engine, parameter, COMPENSATION)
        weights = weights.float() + rest.to(weights.device).float()
    elif MASTER in keys:
        weights = _get(engine, parameter, MASTER)
    changed = change(weights)
    parameter.data.copy_(changed)
    if MASTER in keys:
        _set(engine, parameter, MASTER, changed)
    elif is_linked(parameter):
        # ZeRO-1 and 2 step on weights of their own in any type.
        _set(engine, parameter, MASTER, parameter.data)
    if rest is not None:
        lost = changed.to(parameter.device) - parameter.data.float()
        _set(engine, parameter, COMPENSATION, lost.to(rest.dtype))


def _kept(engine: Any, parameter: nn.Parameter) -> tuple[torch.dtype, list[str]]:
    """Return the element type and the keys of a parameter's state."""
    if isinstance(inner_optimizer(engine), KahanAdamW):
        # DeepSpeed gives bf16 states as fp32.
        return torch.bfloat16, [*KEYS, COMPENSATION]
    return torch.float32, [*KEYS, *([] if parameter.dtype == torch.float32 else [MASTER])]


def _get(engine: Any, parameter: nn.Parameter, key: str) -> Tensor:
    if hasattr(parameter, "ds_id"):
        if key == MASTER:
            return safe_get_local_fp32_param(parameter)
        return safe_get_local_optimizer_state(parameter, key)
    if is_linked(parameter):
        if key == MASTER:
            return safe_get_full_fp32_param(parameter)
        return safe_get_full_optimizer_state(parameter, key)
    state, master = whole_state(engine, parameter)
    tensor: Tensor = master if key == MASTER else state[key]
    return tensor


def _set(engine: Any, parameter: nn.Parameter, key: str, value: Tensor) -> None:
    device = parameter.device
    if hasattr(parameter, "ds_id"):
        value = value.to(device)
        if key == MASTER:
            safe_set_local_fp32_param(parameter, value)
        else:
            safe_set_local_optimizer_state(parameter, value, key)
    elif is_linked(parameter):
        value = value.to(device)
        if key == MASTER:
            safe_set_full_fp32_param(parameter, value)
        else:
            safe_set_full_optimizer_state(parameter, value, key)
    else:
        state, master = whole_state(engine, parameter)
        (master if key == MASTER else state[key]).data.copy_(value)


def set_steps(engine: Any, steps: list[int]) -> None:
    """Set t of every parameter group of ``engine`` (``steps`` in the order of the groups)."""
    for group, state in states_by_group(engine):
        # An optimizer that has not stepped has no state, and starts at 0 by itself.
        if "step" in state:
            state["step"].fill_(float(steps[group]))


def _cpu(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    return tensor.detach().to("cpu", dtype, copy=True)
