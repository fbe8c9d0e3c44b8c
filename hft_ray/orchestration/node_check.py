"""What ``hft-ray tune --dry-run`` looks at on one node of a cluster; runs there, without Ray."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from hft_ray.artifacts import Mirror, MirrorError
from hft_ray.config import ConfigError
from hft_ray.data import locate

PACKAGES = (
    "hft-ray",
    "ray",
    "torch",
    "deepspeed",
    "transformers",
    "tokenizers",
    "datasets",
    "peft",
    "safetensors",
    "optuna",
    "mlflow",
    "numpy",
    "pyarrow",
)
"""Libraries that must be the same on all nodes."""
CODE = "code of hft-ray"
DRIVER = "driver"
"""Name of what the driver leaves in the storage root and in the mirror, for the nodes to find."""


@dataclass(frozen=True)
class NodeQuestion:
    """What a node is asked.

    Attributes:
        node: Its id.
        root: Storage root.
        place: Name of a folder, in the root and in the mirror, in which the driver left something.
        mirror: Address of the mirror, if there is one.
        files: Name of a model or of data -> setting; without those on a hub.
        gpus: GPUs that Ray counts on the node.
    """

    node: str
    root: str
    place: str
    mirror: str | None
    files: dict[str, str]
    gpus: float


@dataclass
class NodeReport:
    """What was found on a node.

    Attributes:
        found: What was looked at (``root``, ``mirror``, ``files``, ``devices``) -> what was found,
            in a few words.
        versions: Package -> version, ``missing`` if it is not installed.
        problems: What was looked at -> what is wrong with it.
    """

    found: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)


def look_around(asked: NodeQuestion) -> NodeReport:
    """Look at everything on this node; a check that fails does not end the others."""
    report = NodeReport(versions=versions())
    checks: dict[str, Callable[[NodeQuestion], str]] = {
        "root": _root,
        "mirror": _mirror,
        "files": _files,
        "devices": _devices,
    }
    for name, check in checks.items():
        try:
            report.found[name] = check(asked)
        except Exception as error:  # noqa: BLE001 - whatever it is, the user is told
            report.found[name] = "wrong"
            report.problems[name] = _said(error)
    return report


def versions() -> dict[str, str]:
    """Return package -> version here, with Python's own and a digest of this package's code."""
    found = {"python": platform.python_version(), CODE: _code()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "missing"
    return found


def _code() -> str:
    """Return a digest of the package's modules: two copies of one version may differ."""
    folder, digest = Path(__file__).parents[1], hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:8]


def _root(asked: NodeQuestion) -> str:
    place = Path(asked.root) / asked.place
    if not (place / DRIVER).is_file():
        raise RuntimeError(
            f"{asked.root} is not the driver's folder: what the driver wrote there is not seen; "
            "mount one share there on every node"
        )
    (place / asked.node).write_text("here", encoding="utf-8")
    return f"{shutil.disk_usage(asked.root).free / 2**30:.0f} GiB free"


def _mirror(asked: NodeQuestion) -> str:
    if asked.mirror is None:
        return "-"
    place = Mirror(asked.mirror) / asked.place
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        place.get(DRIVER, here / "read")
        place.put(here / "read", asked.node)
    return "read and written"


def _files(asked: NodeQuestion) -> str:
    for name, setting in asked.files.items():
        path = locate(name, setting)
        if path is None or not os.access(path, os.R_OK):
            raise RuntimeError(f"{setting}: {name} cannot be read here")
    return "read" if asked.files else "-"


def _devices(asked: NodeQuestion) -> str:
    import torch

    cores = f"{os.cpu_count()} cores"
    seen = torch.cuda.device_count()
    if seen < asked.gpus:
        raise RuntimeError(
            f"Ray counts {asked.gpus:g} GPUs, and PyTorch {torch.__version__} sees {seen}; look at "
            "the driver (nvidia-smi) and at CUDA_VISIBLE_DEVICES of the node's ray start"
        )
    if not seen:
        return cores
    each = torch.cuda.get_device_properties(0)
    return f"{seen} x {each.name}, {each.total_memory / 2**30:.0f} GiB; {cores}"


def _said(error: Exception) -> str:
    if isinstance(error, ConfigError):
        return "; ".join(map(str, error.problems))
    known = isinstance(error, RuntimeError | MirrorError)
    return str(error) if known else f"{type(error).__name__}: {error}"
