"""Whether the files of a model directory are what a model needs, read as far as their headers."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from hft_ray.config import ConfigError, Problem

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
_POINTER = b"version https://git-lfs"
_POINTED = ("*.json", "*.model", "*.jinja", "vocab.txt", "merges.txt")
PATH = "model.name"


@dataclass(frozen=True)
class Header:
    """What a safetensors file says of one tensor: its shape, and its type (F32, BF16, ...)."""

    shape: tuple[int, ...]
    dtype: str


def check_directory(folder: Path) -> None:
    """Refuse a directory that cannot be a whole model, by its files' names and kinds.

    Raises:
        ConfigError: It says what is wrong and what to do.
    """
    message = _problem(folder)
    if message is not None:
        raise ConfigError(Problem(PATH, message, str(folder)))


def headers(folder: Path) -> dict[str, Header]:
    """Return every tensor of a model's safetensors files, from their headers alone.

    Raises:
        ConfigError: A file is missing, truncated or damaged.
    """
    found: dict[str, Header] = {}
    for path in _weight_files(folder):
        try:
            # The library checks that header and data fit together and reach the end of the file.
            with safe_open(path, framework="pt") as file:
                for key in file.keys():  # noqa: SIM118  (the file is not a mapping)
                    part = file.get_slice(key)
                    found[key] = Header(tuple(part.get_shape()), part.get_dtype())
        except (OSError, SafetensorError) as error:
            message = f"{path.name} is truncated or damaged ({error}); copy or download it again"
            raise ConfigError(Problem(PATH, message, str(folder))) from error
    return found


def _problem(folder: Path) -> str | None:
    if (folder / "adapter_config.json").is_file():
        if (folder / SINGLE).is_file() or (folder / INDEX).is_file():
            return (
                "holds a model and an adapter (adapter_config.json), and does not say whether the "
                "adapter is merged; move the adapter's files away to take the model as it is, or "
                "merge it: PEFT's merge_and_unload(), then save_pretrained() to a new directory"
            )
        return (
            "holds an adapter, not a whole model (adapter_config.json); merge it into its base "
            "first: PEFT's merge_and_unload(), then save_pretrained() to a new directory"
        )
    if not (folder / "config.json").is_file():
        inside = "; a GGUF file is named itself" if any(folder.glob("*.gguf")) else ""
        return (
            "is not a model directory: it has no config.json; give a Hugging Face directory, "
            f"a GGUF file or a hub name{inside}"
        )
    read = [path for kind in _POINTED for path in folder.glob(kind)]
    return (
        _absent_problem(read)
        or _config_problem(folder / "config.json")
        or _weights_problem(folder)
        # Other weights may lie beside, and need not have been fetched.
        or _absent_problem(_weight_files(folder))
    )


def _absent_problem(paths: Iterable[Path]) -> str | None:
    """Say which files only stand for others that are not here."""
    pointers = sorted({path.name for path in paths if _lfs(path)})
    if pointers:
        return (
            f"holds Git LFS pointers in the place of files ({', '.join(pointers[:3])}); run "
            "`git lfs pull` in the directory"
        )
    return None


def _config_problem(path: Path) -> str | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        return f"config.json cannot be read as JSON ({error}); take the model's own again"
    if not isinstance(content, dict):
        return "config.json is not a JSON object; take the model's own again"
    return None


def _weights_problem(folder: Path) -> str | None:
    if (folder / SINGLE).is_file():
        return None
    links = sorted(path for path in folder.glob("*.safetensors*") if not path.is_file())
    if links:
        kind = "a link to a file that is not there" if links[0].is_symlink() else "not a file"
        return f"{links[0].name} is {kind}; copy or download the model again"
    if (folder / INDEX).is_file():
        shards = _shards(folder)
        missing = [name for name in shards if not (folder / name).is_file()]
        if missing:
            return (
                f"lacks {len(missing)} of {len(shards)} files that {INDEX} names "
                f"({', '.join(missing[:3])}); copy or download them"
            )
        return None
    others = ", ".join(sorted(path.name for path in folder.glob("*.safetensors"))[:3])
    if others:
        return f"has neither {SINGLE} nor {INDEX}, only {others}; save_pretrained() writes them"
    if any(folder.glob("*.bin")) or any(folder.glob("*.pt*")):
        return (
            "the model directory has no safetensors weights (pickled ones are not loaded); if you "
            "trust them, convert them: AutoModelForCausalLM.from_pretrained(DIR).save_pretrained()"
        )
    return f"the model directory has no safetensors weights: neither {SINGLE} nor {INDEX}"


def _weight_files(folder: Path) -> list[Path]:
    """Return the files that ``from_pretrained`` takes; others may lie beside."""
    if (folder / SINGLE).is_file():
        return [folder / SINGLE]
    return [folder / name for name in _shards(folder)]


def _shards(folder: Path) -> list[str]:
    try:
        content: Any = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        names = sorted(set(content["weight_map"].values()))
        if outside := [name for name in names if Path(name).name != name]:
            raise ValueError(f"{outside[0]!r} is not the name of a file in the directory")
        return names
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        message = f"{INDEX} cannot be read ({error!r}); copy or download it again"
        raise ConfigError(Problem(PATH, message, str(folder))) from error


def _lfs(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(_POINTER)) == _POINTER
    except OSError:
        return False
