"""The storage root: where sweeps, caches and the default tracking store lie."""

from __future__ import annotations

import os
import re
from pathlib import Path

from hft_ray.config.errors import ConfigError, Problem


def storage_root(given: str | Path | None) -> Path:
    """Return ``--storage``, else ``$HFT_RAY_HOME``, else ``~/hft-ray``, as an absolute path.

    Raises:
        ConfigError: It is the address of an object store.
    """
    root = Path(given or os.environ.get("HFT_RAY_HOME") or "~/hft-ray")
    # A path has lost the second slash.
    if re.match(r"\w+:/", str(root)):
        problem = (
            "must be a folder, of this machine or shared; cluster.mirror in FILE names an object "
            "store for checkpoints and weights"
        )
        raise ConfigError(Problem("--storage", problem, str(root)))
    return root.expanduser().absolute()
