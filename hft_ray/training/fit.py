"""Whether a checkpoint's weights are all of an architecture's and nothing else.

What ``from_pretrained`` misses it initialises at random, and says so in its log alone. Its own
loader is asked here: given tensors without data (of the shapes in the files' headers) it renames,
stacks and splits them by its rules for each architecture, ties what is tied, and reports.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from transformers.utils import logging as transformers_logging

from hft_ray.compat.hf_attributes import ties_weights
from hft_ray.config import ConfigError, Problem
from hft_ray.training.directory import PATH, Header

FLOATS = ("F64", "F32", "F16", "BF16")
_PREFIXES = {
    "_orig_mod.": "torch.compile's wrapper; save model._orig_mod",
    "module.": "DistributedDataParallel's or DeepSpeed's wrapper; save model.module",
    "_fsdp_wrapped_module.": "FSDP's wrapper; save its full state dict",
    "base_model.model.": "PEFT's wrapper; save model.merge_and_unload()",
    "model.model.": "a wrapper whose attribute is `model`; save that attribute",
    "model.": "a wrapper whose attribute is `model`; save that attribute",
}
_FORMER = (
    ".attn.bias",
    ".masked_bias",
    ".causal_mask",
    ".attn_mask",
    ".inv_freq",
    ".position_ids",
    "embed_positions.weights",
)
"""Ends of the names of buffers that transformers stored once, and has no more."""
_MOST = 4


def check_weights(shape: nn.Module, found: Mapping[str, Header], name: str) -> None:
    """Refuse weights that are not exactly those of ``shape``; reads no weight.

    Args:
        shape: The model on the meta device.
        found: Tensors of the checkpoint.
        name: What the user calls the model.

    Raises:
        ConfigError: It names what is missing, left over or of another shape.
    """
    packed = [key for key, each in found.items() if each.dtype not in FLOATS and _is_weight(key)]
    if packed:
        kinds = sorted({found[key].dtype for key in packed})
        message = (
            f"has quantised weights ({', '.join(kinds)}: {listed(packed)}), which cannot be "
            "trained; take the unquantised model, or dequantise it and save it anew"
        )
        raise ConfigError(Problem(PATH, message, name))
    config: Any = shape.config
    tensors = {key: torch.empty(each.shape, device="meta") for key, each in found.items()}
    with quiet():
        try:
            _, info = type(shape).from_pretrained(  # type: ignore[attr-defined]
                None,
                config=config,
                state_dict=tensors,
                device_map={"": "meta"},
                dtype=torch.float32,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
            )
        except (RuntimeError, ValueError) as error:
            message = f"its weights do not fit its config.json: {str(error).splitlines()[0]}"
            raise ConfigError(Problem(PATH, message, name)) from error
    require_loaded(info, shape, name)


def require_loaded(info: Mapping[str, Any], model: Any, name: str) -> None:
    """Refuse what ``from_pretrained`` reports of a load that left weights at random or out.

    Args:
        info: Its ``output_loading_info``.
        model: The model, with weights or on the meta device.
        name: What the user calls the model.

    Raises:
        ConfigError: It names what is missing, left over or of another shape.
    """
    config, missing = model.config, set(info["missing_keys"])
    left = {key for key in info["unexpected_keys"] if not _is_made(key, model)}
    shapes = [(key, list(here), list(there)) for key, here, there in info["mismatched_keys"]]
    said = []
    if missing:
        said.append(f"no weights for {len(missing)} parameters ({listed(missing)})")
    if left:
        said.append(f"{len(left)} weights that it has no place for ({listed(left)})")
    if shapes:
        one = (f"{key}: {here}, not {there}" for key, here, there in shapes)
        said.append(f"{len(shapes)} weights of another shape ({listed(one)})")
    if said:
        kind = (getattr(config, "architectures", None) or [config.model_type])[0]
        remedy = _remedy(missing, left, kind, bool(shapes))
        message = f"its weights are not those of config.json: {'; '.join(said)}; {remedy}"
        raise ConfigError(Problem(PATH, message, name))


def require_tied(model: Any, name: str) -> None:
    """Refuse a loaded model whose head config.json ties to the embedding, and whose file does not.

    transformers keeps both weights then; whatever goes by config.json takes them for one.

    Raises:
        ConfigError: It says which setting is wrong.
    """
    config, head = model.config.get_text_config(), model.get_output_embeddings()
    if not getattr(config, "tie_word_embeddings", False) or head is None:
        return
    if ties_weights(model) and head.weight is not model.get_input_embeddings().weight:
        message = (
            "config.json ties head and embedding (tie_word_embeddings), but their weights differ; "
            "set tie_word_embeddings to false there, or save the model with one weight for both"
        )
        raise ConfigError(Problem(PATH, message, name))


def require_finite(model: nn.Module, name: str) -> None:
    """Refuse a loaded model with weights that are not numbers.

    Raises:
        ConfigError: It names the parameters.
    """
    bad = [key for key, each in model.named_parameters() if not _finite(each)]
    if bad:
        message = (
            f"has weights that are NaN or infinite, in {len(bad)} parameters ({listed(bad)}); "
            "take another checkpoint: nothing can be trained from it"
        )
        raise ConfigError(Problem(PATH, message, name))


def _finite(parameter: torch.Tensor) -> bool:
    # Of a parameter that ZeRO-3 has partitioned, this rank's part. One sum, no copy of the weights.
    values = getattr(parameter, "ds_tensor", parameter).detach()
    wide = torch.float64 if values.dtype == torch.float64 else torch.float32
    return bool(values.sum(dtype=wide).isfinite())


def _remedy(missing: set[str], left: set[str], kind: str, shapes: bool) -> str:
    for prefix, meaning in _PREFIXES.items():
        bare = {key.removeprefix(prefix) for key in left if key.startswith(prefix)}
        if bare & missing:
            return f"the names begin with `{prefix}`, {meaning}, or rename the weights"
    if kind.endswith(("Classification", "Answering", "RewardModel", "ForMaskedLM")):
        return f"it was saved as {kind}, which is not a causal language model; take one with a head"
    if shapes and not missing and not left:
        return "take the config.json and the weights of one model (is the vocabulary another?)"
    return "save the whole model with save_pretrained(), or take the config.json that belongs to it"


def listed(names: Iterable[str]) -> str:
    """Return the first few names, and how many more there are."""
    ordered = sorted(names)
    more = f" and {len(ordered) - _MOST} more" if len(ordered) > _MOST else ""
    return ", ".join(ordered[:_MOST]) + more


def _is_made(key: str, model: nn.Module) -> bool:
    """Tell whether a stored tensor is one that the model makes itself, now or formerly.

    Masks and frequencies were stored by earlier versions of transformers. The prefix of the base
    model may be left out.
    """
    made = (name for name, _ in model.named_buffers())
    return key.endswith(_FORMER) or any(f".{name}".endswith(f".{key}") for name in made)


def _is_weight(key: str) -> bool:
    return key.endswith((".weight", "_proj", "_blocks"))


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers' report of a load from the log: what it says is raised instead."""
    before = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(before)
