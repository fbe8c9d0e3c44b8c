"""The storage root: where sweeps, caches and the default tracking store lie."""

from __future__ import annotations

import os
from pathlib import Path


def storage_root(given: Path | None) -> Path:
    """Return ``--storage``, else ``$HFT_RAY_HOME``, else ``~/hft-ray``, as an absolute path."""
    return (given or Path(os.environ.get("HFT_RAY_HOME") or "~/hft-ray")).expanduser().absolute()
