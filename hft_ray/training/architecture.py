"""The model that a configuration describes, without its weights, and whether it can be tuned."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as CAUSAL
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

from hft_ray.config import ConfigError, Model, Problem

PATH = "model.name"
NOT_CAUSAL = "is not a causal language model (a decoder that predicts the next token)"
_OTHER_INPUTS = ("vision", "audio", "image", "video", "speech", "vq", "vae")

log = logging.getLogger(__name__)


def arguments(model: Model, source: str) -> dict[str, Any]:
    """Return the arguments that every ``from_pretrained`` of this model is given."""
    given: dict[str, Any] = {"trust_remote_code": model.trust_remote_code}
    if Path(source).is_dir():
        given["local_files_only"] = True
    elif model.revision is not None:
        given["revision"] = model.revision
    return given


def load_config(model: Model, source: str) -> Any:
    """Return the model's configuration: ``model.architecture`` where it is given, else config.json.

    Raises:
        ConfigError: There is none, it cannot be read, or its model cannot be tuned.
    """
    if model.architecture is not None:
        shape = dict(model.architecture)
        try:
            config: Any = AutoConfig.for_model(shape.pop("model_type", ""), **shape)
        except Exception as error:
            raise ConfigError(
                Problem("model.architecture", first_line(error), model.architecture)
            ) from error
    else:
        try:
            config = AutoConfig.from_pretrained(source, **arguments(model, source))
        # Each class of configuration checks in its own way, and not all of them check.
        except Exception as error:
            problem = f"the model's configuration cannot be loaded: {_explained(error)}"
            raise ConfigError(Problem(PATH, problem, model.name)) from error
    message = _refusal(config)
    if message is not None:
        place = PATH if model.architecture is None else "model.architecture"
        raise ConfigError(Problem(place, message, model.name))
    return config


def load_shape(model: Model, source: str) -> nn.Module:
    """Return the model without weights (on the meta device), for sizes, checks and selections.

    Raises:
        ConfigError: There is no configuration, and ``model.architecture`` is not given; or what it
            describes is not a causal language model.
    """
    config = load_config(model, source)
    try:
        with torch.device("meta"):
            shaped: nn.Module = AutoModelForCausalLM.from_config(
                config, trust_remote_code=model.trust_remote_code
            )
    # What a wrong setting raises is up to each model's code.
    except Exception as error:
        problem = f"no model can be built from its configuration: {_explained(error)}"
        raise ConfigError(Problem(PATH, problem, model.name)) from error
    own: Any = shaped.config
    inputs = [name for name in getattr(own, "sub_configs", {}) if name.startswith(_OTHER_INPUTS)]
    if inputs:
        message = f"{NOT_CAUSAL} of text alone: it has {', '.join(sorted(inputs))}; save its "
        raise ConfigError(Problem(PATH, message + "language model by itself", model.name))
    shaped.tie_weights()  # type: ignore[operator]
    return shaped


def _refusal(config: Any) -> str | None:
    """Return why a model of this configuration cannot be tuned; None if it may."""
    kind = config.model_type
    quantised = getattr(config, "quantization_config", None)
    if quantised:
        method = quantised.get("quant_method") if isinstance(quantised, dict) else None
        return (
            f"has quantised weights ({method or 'quantization_config in config.json'}), which "
            "cannot be trained; take the unquantised model, or dequantise it and save it anew"
        )
    if getattr(config, "is_encoder_decoder", False):
        return f"{NOT_CAUSAL}: {kind} is an encoder-decoder; take a decoder-only model"
    if kind in MODEL_FOR_MASKED_LM_MAPPING_NAMES and not getattr(config, "is_decoder", False):
        return f"{NOT_CAUSAL}: {kind} is an encoder, which reads what follows; take a decoder"
    text = config.get_text_config()
    both = getattr(text, "use_bidirectional_attention", None) is True
    if both or getattr(text, "is_causal", True) is False:
        return f"{NOT_CAUSAL}: config.json asks for attention to what follows; take a decoder"
    remote = "AutoModelForCausalLM" in (getattr(config, "auto_map", None) or {})
    if kind not in CAUSAL and not remote:
        return f"{NOT_CAUSAL}: transformers has none of type {kind}; take a decoder-only model"
    routed = getattr(config, "output_router_logits", False)
    if routed and not hasattr(config, "router_aux_loss_coef"):
        return (
            "config.json asks for the router's loss (output_router_logits) without "
            "router_aux_loss_coef, its weight; set output_router_logits to false there"
        )
    return None


def _explained(error: Exception) -> str:
    """Return the first line of an error, and what to do where that is known."""
    line = first_line(error)
    if "trust_remote_code" in str(error):
        return (
            "it needs Python code that comes with the model; read that code, then set "
            "model.trust_remote_code to true if you trust it"
        )
    if "does not recognize this architecture" in str(error) or "model_type" in line:
        return f"{line}; check model_type in config.json, or update transformers"
    if "Padding_idx" in line:
        return f"{line}; pad_token_id in config.json lies beyond vocab_size: take another, or null"
    return line


def first_line(error: Exception) -> str:
    """Return the first line of what an error says, and the next one if it only leads there."""
    first, *rest = str(error).strip().splitlines() or [type(error).__name__]
    if isinstance(error, (LookupError, ArithmeticError)):
        return f"{type(error).__name__}: {first}"
    return f"{first} {rest[0].strip()}" if rest and first.endswith(":") else first
