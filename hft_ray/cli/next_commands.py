"""The commands that a user runs after a sweep, as they must be typed here."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path

from hft_ray.storage_root import storage_root


def next_commands(name: str, root: Path, uri: str) -> list[tuple[str, str]]:
    """Return (what it does, command) for the results of a sweep.

    Args:
        name: Name of the sweep.
        root: Its storage root, which is named unless the commands take it by themselves.
        uri: Its tracking URI.
    """
    place = [] if root == storage_root(None) else ["--storage", _short(root)]
    own = _program("hft-ray")
    if uri.startswith(("http:", "https:")):
        look = uri
    else:
        look = shlex.join([_program("mlflow"), "ui", "--backend-store-uri", uri])
    return [
        ("look", look),
        ("export", shlex.join([own, "export", name, "--select", "knee", "--out", "knee", *place])),
        ("again", shlex.join([own, "report", name, *place])),
    ]


def _program(name: str) -> str:
    """Return the name of a program of this environment, with its folder unless it is on PATH."""
    own = Path(sys.executable).parent / name
    found = shutil.which(name)
    return name if found is not None and Path(found).parent == own.parent else _short(own)


def _short(path: Path) -> str:
    """Return a path relative to the working directory if it lies below it."""
    here = Path.cwd()
    return os.path.relpath(path, here) if path.is_relative_to(here) else str(path)
