"""Checks of what a ``Trainer`` cannot half fine-tune, before anything is trained."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType

from hft_ray.config import ConfigError, Problem, Selection
from hft_ray.selection import needs

_INSTEAD = "use `hft-ray train`"


def check_selection(selection: Selection) -> None:
    """Refuse what needs the data or the pre-trained weights, which a callback does not have.

    Raises:
        ConfigError: The selection asks for it.
    """
    problems = []
    if needs(selection) != "nothing":
        problem = f"measures the {needs(selection)}, which a callback cannot do: {_INSTEAD}"
        problems.append(Problem("selection.strategy", problem, selection.strategy))
    if selection.on_deselect == "reset":
        problem = f"needs the pre-trained weights at every re-selection: {_INSTEAD}"
        problems.append(Problem("selection.on_deselect", problem, selection.on_deselect))
    if problems:
        raise ConfigError(problems)


def check_arguments(args: Any) -> None:
    """Refuse ``TrainingArguments`` under which a selection would not hold.

    Raises:
        ConfigError: Everything that is wrong with them, together.
    """
    problems = [*_sharding(args), *_data_parallel(args), *_checkpointing(args)]
    if problems:
        raise ConfigError(problems)


def _sharding(args: Any) -> Iterator[Problem]:
    state = AcceleratorState()
    # accelerate also takes them from its own launcher, and leaves them out on a CPU.
    named = {
        "deepspeed": args.deepspeed or getattr(state, "deepspeed_plugin", None),
        "fsdp": args.fsdp_plugin_args or getattr(state, "fsdp_plugin", None),
        "megatron_lm": state.distributed_type == DistributedType.MEGATRON_LM,
        "xla": state.distributed_type == DistributedType.XLA,
        "parallelism_config": args.parallelism_config,
    }
    for name, found in named.items():
        if found:
            yield Problem(
                name,
                "sharded parameters are trained or not as they were when they were sharded, and a "
                f"later selection would silently be ignored: {_INSTEAD}, which builds a DeepSpeed "
                "engine for each selection",
            )


def _data_parallel(args: Any) -> Iterator[Problem]:
    """DistributedDataParallel waits for the gradient of every parameter that it was built with."""
    if args.world_size == 1:
        return
    finds = args.ddp_find_unused_parameters
    # Trainer's default, for a model of transformers.
    if not (not args.activation_checkpointing if finds is None else finds):
        yield Problem("ddp_find_unused_parameters", "must be True with several processes", finds)
    if args.ddp_static_graph:
        problem = "must be False: what is trained changes"
        yield Problem("ddp_static_graph", problem, args.ddp_static_graph)


def _checkpointing(args: Any) -> Iterator[Problem]:
    # It gives a block no gradient when its inputs need none, as below a frozen embedding.
    kwargs = args.activation_checkpointing_kwargs or {}
    if args.activation_checkpointing and kwargs.get("use_reentrant"):
        yield Problem(
            "activation_checkpointing_kwargs.use_reentrant",
            "must be False: blocks after frozen ones would get no gradient",
            True,
        )
