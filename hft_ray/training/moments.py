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

from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
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

from hft_ray.compat.deepspeed import inner_optimizer, is_linked, states_by_group, whole_state
from hft_ray.ranks import Ranks
from hft_ray.training.kahan import COMPENSATION, KahanAdamW

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
    lean = isinstance(inner_optimizer(engine), KahanAdamW)
    # DeepSpeed gives bf16 states as fp32.
    dtype = torch.bfloat16 if lean else torch.float32
    keys = list(KEYS)
    if lean:
        keys.append(COMPENSATION)
    elif parameter.dtype != torch.float32:
        keys.append(MASTER)
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


def whole(parameter: Any, tensor: Tensor, ranks: Ranks) -> Tensor:
    """Return the whole of a CPU state tensor of which ZeRO-3 holds a part (a collective)."""
    if not hasattr(parameter, "ds_id"):
        return tensor
    parts = [tensor.flatten()]
    if ranks.size > 1:
        part = parts[0].to(parameter.device)
        gathered = [torch.empty_like(part) for _ in range(ranks.size)]
        dist.all_gather(gathered, part)
        parts = [each.cpu() for each in gathered]
    # The last rank's part is padded.
    return torch.cat(parts)[: parameter.ds_numel].reshape(parameter.ds_shape).clone()


def part(parameter: Any, tensor: Tensor, ranks: Ranks) -> Tensor:
    """Return this rank's part of a whole state tensor, the inverse of :func:`whole`."""
    if not hasattr(parameter, "ds_id"):
        return tensor
    length = -(-parameter.ds_numel // ranks.size)
    padded = torch.zeros(length * ranks.size, dtype=tensor.dtype)
    padded[: parameter.ds_numel] = tensor.flatten()
    return padded[ranks.rank * length : (ranks.rank + 1) * length].clone()
