"""Finding and loading the base model and its tokenizer."""

from __future__ import annotations

import hashlib
import json
import logging
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from safetensors import SafetensorError
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GgufConfig,
    PreTrainedTokenizerFast,
)
from transformers.utils import logging as transformers_logging

from hft_ray.artifacts import new_file, new_folder
from hft_ray.config import ConfigError, Model, Problem
from hft_ray.data import content_hash, locate
from hft_ray.training.architecture import arguments, first_line, load_config
from hft_ray.training.directory import PATH, check_directory
from hft_ray.training.fit import quiet, require_finite, require_loaded, require_tied

_TOKENIZER = (
    "save the model's own tokenizer (tokenizer.json, tokenizer_config.json) beside it; a tuned "
    "model has that of its base: AutoTokenizer.from_pretrained(BASE).save_pretrained(MODEL)"
)
_VOCABULARIES = ("tokenizer*", "vocab*", "merges.txt", "*.model", "*.tiktoken", "tekken.json")
"""Names of the files that tokenizers lie in."""
_PROBE = "The quick brown fox, 0123456789."
log = logging.getLogger(__name__)

# Progress bars of loading would break up what the commands print.
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
    if path.is_file():
        problem = "is a file; give a Hugging Face directory, a GGUF file or a hub name"
        raise ConfigError(Problem(PATH, problem, str(path)))
    check_directory(path)
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
        with new_folder(target) as written:
            weights.save_pretrained(written)
            tokenizer.save_pretrained(written)
    return target


def load_tokenizer(model: Model, source: str) -> PreTrainedTokenizerFast:
    """Return the model's tokenizer, with a padding token that the model has a row for.

    Padding is masked everywhere, so its token is free to choose: where the tokenizer has none, or
    one beyond the model's vocabulary, it becomes the end-of-text token.

    Raises:
        ConfigError: There is no tokenizer, or it does not report character offsets.
    """
    rows = getattr(load_config(model, source).get_text_config(), "vocab_size", None)
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, **arguments(model, source))
    # A damaged file is found by whatever is done with it first.
    except Exception as error:
        problem = _without_files(source) or f"the tokenizer cannot be loaded: {first_line(error)}"
        raise ConfigError(Problem(PATH, f"{problem}; {_TOKENIZER}", model.name)) from error
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        problem = "has no fast tokenizer, which is needed to find the answers' tokens"
        raise ConfigError(Problem(PATH, f"{problem}; {_TOKENIZER}", model.name))
    if not set(tokenizer(_PROBE, add_special_tokens=False)["input_ids"]) - {tokenizer.unk_token_id}:
        # Of a directory without tokenizer files some classes make a tokenizer that knows nothing.
        problem = _without_files(source) or "its tokenizer files hold no vocabulary"
        raise ConfigError(Problem(PATH, f"{problem}; {_TOKENIZER}", model.name))
    _choose_padding(tokenizer, rows, model.name)
    return tokenizer


def _without_files(source: str) -> str | None:
    """Return the problem of a directory without tokenizer files; None if it has some."""
    folder = Path(source)
    if not folder.is_dir() or any(any(folder.glob(name)) for name in _VOCABULARIES):
        return None
    return "the model directory has no tokenizer"


def _choose_padding(tokenizer: PreTrainedTokenizerFast, rows: int | None, name: str) -> None:
    given, end = tokenizer.pad_token_id, tokenizer.eos_token_id
    if given is not None and (rows is None or given < rows):
        return
    known = end is not None and (rows is None or end < rows)
    chosen = tokenizer.eos_token if known else tokenizer.convert_ids_to_tokens(0)
    if given is not None:
        message = "%s: its padding token %r (id %d) lies beyond the model's %d embeddings; %r pads"
        log.warning(message, name, tokenizer.pad_token, given, rows, chosen)
    tokenizer.pad_token = chosen


def load_model(model: Model, source: str, dtype: torch.dtype) -> nn.Module:
    """Return the base model with its weights, on the CPU, in training mode.

    Raises:
        ConfigError: The weights cannot be loaded, are not all of the model's and nothing else, or
            are not finite.
    """
    if model.trust_remote_code:
        log.warning("%s: Python code that the model repository ships may run", model.name)
    try:
        with quiet():
            loaded, info = AutoModelForCausalLM.from_pretrained(
                source,
                dtype=dtype,
                attn_implementation=None if model.attention == "auto" else model.attention,
                use_safetensors=True,
                # Refused below, by name.
                ignore_mismatched_sizes=True,
                output_loading_info=True,
                **arguments(model, source),
            )
    except (OSError, ValueError, ImportError, RuntimeError, SafetensorError) as error:
        problem = f"the model cannot be loaded: {first_line(error)}"
        raise ConfigError(Problem(PATH, problem, model.name)) from error
    require_loaded(info, loaded, model.name)
    require_tied(loaded, model.name)
    require_finite(loaded, model.name)
    if model.use_liger_kernel:
        fuse(loaded)
    trained: nn.Module = loaded.train()
    return trained


def fuse(model: Any) -> None:
    """Have a model compute by Liger's kernels (arXiv 2410.10989), for the rest of the process.

    Not the loss: see :mod:`hft_ray.evaluation.linear`.

    Raises:
        ConfigError: A GPU or the package liger-kernel is missing.
    """
    path = "model.use_liger_kernel"
    if not torch.cuda.is_available():
        raise ConfigError(Problem(path, "needs a GPU; leave it out on a CPU", True))
    if find_spec("liger_kernel") is None:
        problem = "liger-kernel is not installed: pip install 'hft-ray[liger]'"
        raise ConfigError(Problem(path, problem, True))
    from transformers.integrations.liger import apply_liger_kernel  # brings Trainer's modules along

    apply_liger_kernel(model, {"cross_entropy": False, "fused_linear_cross_entropy": False})


def recompute_activations(model: Any) -> None:
    """Have a model's layers keep their inputs alone, and recompute the rest when it is needed."""
    # Reentrant checkpointing gives a block no gradient when its inputs need none.
    model.gradient_checkpointing_enable({"use_reentrant": False})
    # transformers has the embeddings' output need a gradient, for the reentrant kind. The backward
    # pass would go down to it through layers below which nothing is trained.
    model.disable_input_require_grads()


def weights_hash(source: str, revision: str | None, cache: Path) -> str:
    """Return a SHA-256 of the model's files; of a hub model, of its name and commit (``revision``).

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
    with new_file(remembered) as written:
        written.write_text(value)
    return value
