"""Private names of DeepSpeed, which hold in 0.19.

=============================================  ==============================================
``runtime.zero.muon.original_muon``            A module that is compiled when it is imported
``__compatible_ops__``                         Operators that DeepSpeed may build
``module_forward_pre_hook``, ``..._post_hook``  An engine's hooks on its module
``pre_bwd_fn`` and others                      What ZeRO-3 puts into each module
``FWD_MODULE_STACK``                           ZeRO-3's list of modules, one for the process
``PartitionedParameterCoordinator.__params_to_release``  A cache that holds engines
``_hp_mapping``                                A parameter's state on this rank in ZeRO-1 or 2
``bit16_groups``, ``single_partition_of_fp32_groups``  ZeRO-1's and 2's groups
``fp16_groups``, ``fp32_groups``               Groups of the bf16 optimizer without ZeRO
``sub_group_to_group_id``, ``fp32_partitioned_groups_flat``  ZeRO-3's groups
=============================================  ==============================================
"""

from __future__ import annotations

import importlib
import inspect
import os
from collections.abc import Iterator
from typing import Any

import deepspeed
from deepspeed.runtime.zero import parameter_offload
from deepspeed.runtime.zero.partitioned_param_coordinator import PartitionedParameterCoordinator
from deepspeed.utils import lazy_init_hp_params_optimizer_state
from torch import Tensor, nn

State = dict[str, Any]
"""An optimizer's state of one parameter."""


def import_muon_uncompiled() -> None:
    """Import DeepSpeed's Muon, which nothing here uses, without compiling it.

    DeepSpeed's first engine imports it. Its functions are given to ``torch.compile`` then, which
    imports the whole of inductor: seconds in every process. The variable that keeps torch from
    compiling is set for this import alone, so that ``torch.compile`` works before and after it.
    """
    name = "TORCHDYNAMO_DISABLE"
    before = os.environ.get(name)
    os.environ[name] = "1"
    try:
        importlib.import_module("deepspeed.runtime.zero.muon.original_muon")
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def build_no_shared_memory_operator() -> None:
    """Keep DeepSpeed from building its shared-memory operator on CPU.

    A process that dies while building leaves a stale lock behind on which all later ones wait.
    """
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False


def destroy(engine: Any, module: nn.Module) -> None:
    """Destroy ``engine``, which was made over ``module``, with all that it leaves behind.

    What ``engine.destroy()`` leaves keeps an engine or its module alive, or runs in every later
    engine (``tests/training/test_training_leaks.py`` counts what is left). The module keeps its
    weights, and nothing else the engine (a collective).
    """
    engine.destroy()
    engine.module_forward_pre_hook.remove()
    engine.module_forward_post_hook.remove()
    for parameter in module.parameters():
        parameter.grad = None
    for each in module.modules():
        # ZeRO-3 gives these to a module once: every later engine's backward pass would run through
        # the first one.
        for name in ("pre_bwd_fn", "post_bwd_fn", "applied_pre_backward_ref_cnt"):
            each.__dict__.pop(name, None)
    # ZeRO-3 enters the module into a list of the process, once for each engine.
    stack = parameter_offload.FWD_MODULE_STACK
    stack[:] = [each for each in stack if each is not module]
    release_cache().cache_clear()


def release_cache() -> Any:
    """Return a cache of ZeRO-3 that would keep every engine and every module for ever."""
    method = PartitionedParameterCoordinator._PartitionedParameterCoordinator__params_to_release
    return inspect.getclosurevars(method).nonlocals["func"]


def link_states(engine: Any) -> None:
    """Let DeepSpeed's accessors see the optimizer state of every group.

    ZeRO-1 and 2 link parameters to state once, after the step of the first group, when the state of
    the later groups is not there yet.
    """
    outer = engine.optimizer
    if hasattr(outer, "single_partition_of_fp32_groups"):
        pairs = zip(outer.bit16_groups, outer.single_partition_of_fp32_groups, strict=True)
        for parameters, flat in pairs:
            lazy_init_hp_params_optimizer_state(parameters, flat, outer.optimizer.state)


def is_linked(parameter: nn.Parameter) -> bool:
    """Whether DeepSpeed's accessors of whole states know a parameter, as in ZeRO-1 and 2."""
    return hasattr(parameter, "_hp_mapping")


def own_fragment(parameter: nn.Parameter, key: str | None) -> tuple[int, Tensor] | None:
    """Return the part of a parameter's state that this rank keeps under ZeRO-1 and 2.

    Args:
        parameter: The parameter; :func:`link_states` was called.
        key: ``exp_avg`` and the like; None for the fp32 copy.

    Returns:
        The place of the first number in the flattened state, and the numbers; None if all of them
        lie on other ranks.
    """
    mapping: Any = getattr(parameter, "_hp_mapping", None)
    if mapping is None:
        return None
    return mapping.lp_fragment_address.start, mapping.get_hp_fragment(key)


def whole_state(engine: Any, parameter: nn.Parameter) -> tuple[State, Tensor]:
    """Return state and master copy of a parameter under ZeRO-0.

    Without fp32 copies the optimizer is one over the parameters themselves; else it is over copies
    that stand in the same places of ``fp32_groups`` as the parameters in ``fp16_groups``.
    """
    outer = engine.optimizer
    if not hasattr(outer, "fp32_groups"):
        return outer.state[parameter], parameter
    for halves, masters in zip(outer.fp16_groups, outer.fp32_groups, strict=True):
        for half, master in zip(halves, masters, strict=True):
            if half is parameter:
                return outer.optimizer.state[master], master
    raise AssertionError("the parameter is not in the engine")


def states_by_group(engine: Any) -> Iterator[tuple[int, State]]:
    """Yield every state of the optimizer with the number of its parameter group.

    A state is empty before the optimizer's first step.
    """
    outer, inner = engine.optimizer, inner_optimizer(engine)
    if hasattr(outer, "sub_group_to_group_id"):
        # ZeRO-3 cuts groups into sub-groups, and lends them to the optimizer only while it steps.
        for sub_group, flat in enumerate(outer.fp32_partitioned_groups_flat):
            yield outer.sub_group_to_group_id[sub_group], inner.state.get(flat, {})
        return
    for number, group in enumerate(inner.param_groups):
        for parameter in group["params"]:
            yield number, inner.state.get(parameter, {})


def inner_optimizer(engine: Any) -> Any:
    """Return the optimizer that makes the steps, below DeepSpeed's."""
    return getattr(engine.optimizer, "optimizer", engine.optimizer)
