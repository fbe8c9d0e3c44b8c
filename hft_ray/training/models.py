"""Finding and loading the base model and its tokenizer."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from safetensors import SafetensorError
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GgufConfig,
    PreTrainedTokenizerFast,
)
from transformers.utils import logging as transformers_logging

from hft_ray.config import ConfigError, Model, Problem
from hft_ray.data import content_hash, locate

PATH = "model.name"
log = logging.getLogger(__name__)

# They would stand between what the commands print, for models that load in a moment.
transformers_logging.disable_progress_bar()


def find_model(model: Model, cache: Path) -> str:
    """Return what ``from_pretrained`` takes for ``model``: a directory, or a hub name.

    A GGUF file is converted once and kept as a Hugging Face directory under ``cache``.

    Raises:
        ConfigError: There is no model at that place.
    """
    path = locate(model.name, PATH)
    if path is None:
        return model.name
    if path.suffix == ".gguf":
        return str(_converted(path, cache))
    if not (path / "config.json").is_file():
        problem = "is no model directory: it has no config.json; give a Hugging Face directory, "
        raise ConfigError(Problem(PATH, problem + "a GGUF file or a hub name", str(path)))
    weights = [*path.glob("*.safetensors"), *path.glob("*.safetensors.index.json")]
    if not weights:
        problem = "the model directory has no safetensors weights (pickled ones are not loaded)"
        raise ConfigError(Problem(PATH, problem, str(path)))
    return str(path)


def _converted(path: Path, cache: Path) -> Path:
    """Return the Hugging Face directory of a GGUF file, made at first use."""
    target = cache / "models" / content_hash(path)[:32]
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{target}.lock"):
        if target.is_dir():
            return target
        folder, file = str(path.parent), path.name
        try:
            weights = AutoModelForCausalLM.from_pretrained(
                folder,
                gguf_file=file,
                # Else weights may stay packed, which can be neither trained nor saved.
                quantization_config=GgufConfig(dequantize=True),
                dtype=torch.float32,
                local_files_only=True,
            )
            tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=file, local_files_only=True)
        except (ImportError, OSError, ValueError, KeyError) as error:
            problem = f"the GGUF file cannot be loaded: {error}"
            raise ConfigError(Problem(PATH, problem, str(path))) from error
        partial = Path(tempfile.mkdtemp(dir=target.parent))
        try:
            weights.save_pretrained(partial)
            tokenizer.save_pretrained(partial)
            partial.replace(target)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return target


def load_tokenizer(model: Model, source: str) -> PreTrainedTokenizerFast:
    """Return the model's tokenizer; a missing padding token becomes the end-of-text token.

    Raises:
        ConfigError: There is no tokenizer, or none that reports character offsets.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, **_arguments(model, source))
    except (OSError, ValueError) as error:
        problem = f"the tokenizer cannot be loaded: {_first_line(error)}"
        raise ConfigError(Problem(PATH, problem, model.name)) from error
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        problem = "has no fast tokenizer, which is needed to find the answers' tokens"
        raise ConfigError(Problem(PATH, problem, model.name))
    if tokenizer.pad_token_id is None:
        # Padding is masked everywhere, so its token is free to choose.
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.convert_ids_to_tokens(0)
    return tokenizer


def load_model(model: Model, source: str, dtype: torch.dtype) -> nn.Module:
    """Return the base model with its weights, on the CPU, in training mode.

    Raises:
        ConfigError: The weights cannot be loaded.
    """
    if model.trust_remote_code:
        log.warning("%s: Python code that the model repository ships may run", model.name)
    try:
        loaded: nn.Module = AutoModelForCausalLM.from_pretrained(
            source,
            dtype=dtype,
            attn_implementation=None if model.attention == "auto" else model.attention,
            use_safetensors=True,
            **_arguments(model, source),
        )
    except (OSError, ValueError, ImportError, SafetensorError) as error:
        problem = f"the model cannot be loaded: {_first_line(error)}"
        raise ConfigError(Problem(PATH, problem, model.name)) from error
    return loaded.train()


def recompute_activations(model: Any) -> None:
    """Have a model's layers keep their inputs alone, and recompute the rest when it is needed."""
    # Reentrant checkpointing gives a block no gradient when its inputs need none.
    model.gradient_checkpointing_enable({"use_reentrant": False})
    # transformers has the embeddings' output need a gradient, for the reentrant kind. The backward
    # pass would go down to it through layers below which nothing is trained.
    model.disable_input_require_grads()


def load_shape(model: Model, source: str) -> nn.Module:
    """Return the model without weights (on the meta device), for sizes and selections.

    Raises:
        ConfigError: There is no configuration at hand, and ``model.shape`` is not given.
    """
    if model.shape is not None:
        shape = dict(model.shape)
        try:
            config: Any = AutoConfig.for_model(shape.pop("model_type", ""), **shape)
        except (ValueError, TypeError) as error:
            raise ConfigError(Problem("model.shape", _first_line(error), model.shape)) from error
    else:
        try:
            config = AutoConfig.from_pretrained(source, **_arguments(model, source))
        except (OSError, ValueError) as error:
            problem = f"the model's configuration cannot be loaded: {_first_line(error)}"
            raise ConfigError(Problem(PATH, problem, model.name)) from error
    with torch.device("meta"):
        shaped: nn.Module = AutoModelForCausalLM.from_config(
            config, trust_remote_code=model.trust_remote_code
        )
    shaped.tie_weights()  # type: ignore[operator]
    return shaped


def weights_hash(source: str, revision: str | None, cache: Path) -> str:
    """Return a SHA-256 of the model's files; of a hub model, of its name and revision.

    Hashing is remembered under ``cache`` by path, size and time of each file, since it takes
    seconds for every few gigabytes.
    """
    folder = Path(source)
    if not folder.is_dir():
        return hashlib.sha256(f"{source}@{revision or ''}".encode()).hexdigest()
    files = sorted(item for item in folder.iterdir() if item.is_file())
    stats = [(str(file.resolve()), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    key = hashlib.sha256(json.dumps(stats).encode()).hexdigest()
    remembered = cache / "hashes" / key
    if remembered.is_file():
        return remembered.read_text()
    value = content_hash(folder)
    remembered.parent.mkdir(parents=True, exist_ok=True)
    # Whole or not at all: half a hash would stand for another model.
    with tempfile.NamedTemporaryFile("w", dir=remembered.parent, delete=False) as file:
        file.write(value)
    Path(file.name).replace(remembered)
    return value


def _arguments(model: Model, source: str) -> dict[str, Any]:
    arguments: dict[str, Any] = {"trust_remote_code": model.trust_remote_code}
    if Path(source).is_dir():
        arguments["local_files_only"] = True
    elif model.revision is not None:
        arguments["revision"] = model.revision
    return arguments


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
