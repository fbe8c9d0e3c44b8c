"""The model directory that a name on the command line stands for."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

from hft_ray.config import ConfigError, Model, Problem
from hft_ray.training.models import find_model

_FILES = ["*.json", "*.safetensors", "*.jinja", "*.txt", "*.model"]


def find_directory(name: str, what: str, cache: Path, revision: str | None = None) -> Path:
    """Return the model directory for ``name``.

    Args:
        name: A directory, ``package:MODULE/PATH``, a GGUF file (converted once and kept under
            ``cache``), or a hub name (downloaded to the hub's own cache).
        what: What the user calls it (TUNED, BASE), for errors.
        cache: Folder of converted models.
        revision: Commit, branch or tag of a hub name; the newest by default.

    Raises:
        ConfigError: There is no such model, or it cannot be reached.
    """
    try:
        source = find_model(Model(name=name), cache)
    except ConfigError as error:
        problems = [Problem(what, each.message, name) for each in error.problems]
        raise ConfigError(problems) from error
    if Path(source).is_dir():
        return Path(source)
    try:
        return Path(snapshot_download(source, revision=revision, allow_patterns=_FILES))
    except (LocalEntryNotFoundError, HfHubHTTPError, HFValidationError, OSError) as error:
        reason = str(error).strip().partition("\n")[0]
        problem = f"is not a directory here, and cannot be fetched from the hub: {reason}"
        raise ConfigError(Problem(what, problem, name)) from error
