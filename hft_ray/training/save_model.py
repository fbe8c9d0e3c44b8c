"""Writing the trained model as a Hugging Face directory, from any ZeRO stage."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hft_ray.artifacts import delete_partial, new_folder
from hft_ray.data import end_tokens
from hft_ray.ranks import Ranks
from hft_ray.training.partitioned import gathered


def whole_state(model: nn.Module, ranks: Ranks) -> dict[str, Tensor]:
    """Return the module's state on the CPU of rank 0, empty elsewhere (a collective).

    One parameter is made whole at a time, so that ZeRO-3 never holds the whole model on a device.
    Tied weights stay one tensor.
    """
    state: dict[str, Tensor] = {}
    copies: dict[int, Tensor] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if id(parameter) not in copies:
            with gathered([parameter]):
                copy = parameter.detach().to("cpu", copy=True) if ranks.main else torch.empty(0)
                copies[id(parameter)] = copy
        if ranks.main:
            state[name] = copies[id(parameter)]
    if not ranks.main:
        return {}
    parameters = dict(model.named_parameters(remove_duplicate=False))
    for name, tensor in model.state_dict().items():
        if name not in parameters:
            state[name] = tensor.detach().to("cpu", copy=True)
    return state


def save_model(model: Any, tokenizer: Any, folder: Path, ranks: Ranks) -> None:
    """Write model and tokenizer to ``folder``, whole or not at all (a collective).

    Its ``generation_config.json`` ends where an answer ends in training: at the tokenizer's
    end-of-sequence token and at that of the chat template, beside the base's own. Both never stand
    within an answer, so a model that learned neither loses nothing.
    """
    state = whole_state(model, ranks)
    if ranks.main:
        delete_partial(folder.parent, folder.name)
        with new_folder(folder, replace=True) as written:
            model.save_pretrained(written, state_dict=state)
            _end_generation(model.generation_config, tokenizer, written)
            tokenizer.save_pretrained(written)
    ranks.barrier()


def _end_generation(own: Any, tokenizer: Any, folder: Path) -> None:
    """Write the generation configuration ``own`` with all tokens that end an answer."""
    known = own.eos_token_id
    ends = end_tokens(tokenizer, known)
    if ends == ([known] if isinstance(known, int) else list(known or ())):
        return
    written = copy.deepcopy(own)
    written.eos_token_id = ends[0] if len(ends) == 1 else ends
    written.save_pretrained(folder)
