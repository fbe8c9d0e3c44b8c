"""Where a name in FILE points to: a path, a file inside an installed package, or the hub."""

from __future__ import annotations

import hashlib
import re
from importlib.util import find_spec
from pathlib import Path

from hft_ray.config import ConfigError, Problem

_PACKAGE = "package:"
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
# A suffix starts with a letter: in Llama-3.2-1B and Qwen2.5 the dot belongs to a version.
_FILE_SUFFIX = re.compile(r"\.[A-Za-z][A-Za-z0-9]*$")
_CHUNK = 1 << 20


def locate(name: str, what: str) -> Path | None:
    """Find what ``name`` points to.

    Args:
        name: A path (relative to the working directory, ``~`` allowed), ``package:MODULE/PATH``
            for a file of an installed package, or a hub name (``name`` or ``owner/name``).
        what: The setting that holds the name, as a dotted path, for errors.

    Returns:
        The existing file or directory, or ``None`` when it can only be a hub name.

    Raises:
        ConfigError: There is no such file, or no such package.
    """
    if name.startswith(_PACKAGE):
        return _in_package(name, what)
    path = Path(name).expanduser()
    if path.exists():
        return path
    if _HUB_NAME.fullmatch(name) and not _FILE_SUFFIX.search(name):
        return None
    raise ConfigError(Problem(what, f"no such file: {path.absolute()}", name))


def _in_package(name: str, what: str) -> Path:
    """Find ``package:MODULE/PATH`` without importing the module, which may be slow or fail."""
    module, _, rest = name.removeprefix(_PACKAGE).partition("/")
    top, *inner = module.split(".")
    if not rest or not all(part.isidentifier() for part in (top, *inner)):
        raise ConfigError(Problem(what, "must look like package:MODULE/PATH", name))
    spec = find_spec(top)
    if spec is None:
        install = f"pip install {top.replace('_', '-')}"
        raise ConfigError(Problem(what, f"package {top!r} is not installed; {install}", name))
    folders = [Path(folder, *inner) for folder in spec.submodule_search_locations or ()]
    for folder in folders:
        if (folder / rest).exists():
            return folder / rest
    looked = ", ".join(str(folder / rest) for folder in folders) or f"{top} is a single module"
    raise ConfigError(Problem(what, f"no such file in package {top!r}: {looked}", name))


def content_hash(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, or of a directory's relative names and bytes."""
    if path.is_file():
        return _file_hash(path)
    digest = hashlib.sha256()
    for file in sorted(each for each in path.rglob("*") if each.is_file()):
        digest.update(f"{file.relative_to(path).as_posix()}\0{_file_hash(file)}\n".encode())
    return digest.hexdigest()


def _file_hash(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
