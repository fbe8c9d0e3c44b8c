"""What an engine of DeepSpeed leaves behind when it is destroyed, and taking it away.

Each of these keeps an engine or its module alive, or runs in every later engine (seen with
DeepSpeed 0.19; ``tests/training/test_training_leaks.py`` counts what is left).
"""

from __future__ import annotations

import inspect
from typing import Any

from deepspeed.runtime.zero import parameter_offload
from deepspeed.runtime.zero.partitioned_param_coordinator import PartitionedParameterCoordinator
from torch import nn


def destroy(engine: Any, module: nn.Module) -> None:
    """Destroy ``engine``, which was made over ``module``, with all that it leaves behind.

    The module keeps its weights, and nobody else the engine (a collective).
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
    _clear_releases()


def _clear_releases() -> None:
    """Empty a cache of ZeRO-3 that would keep every engine and every module for ever."""
    name = "_PartitionedParameterCoordinator__params_to_release"
    method = getattr(PartitionedParameterCoordinator, name, None)
    cached = inspect.getclosurevars(method).nonlocals.get("func") if method else None
    if cached is not None and hasattr(cached, "cache_clear"):
        cached.cache_clear()
