"""Where a sweep is tracked: as a command says, else as the sweep's own FILE did."""

from __future__ import annotations

from pathlib import Path

import yaml

from hft_ray.config import ConfigError, Problem
from hft_ray.config.sections.tracking import Tracking
from hft_ray.orchestration.folder import SweepFolder
from hft_ray.tracking import tracking_uri


def tracked_at(
    root: Path, name: str, uri: str | None = None, experiment: str | None = None
) -> tuple[str, str]:
    """Return the tracking URI and the experiment of a sweep.

    Args:
        root: Storage root.
        name: Name of the sweep.
        uri: What to take in place of the URI of the sweep's FILE.
        experiment: What to take in place of the experiment of the sweep's FILE.

    Raises:
        ConfigError: The name is not a sweep's, or MLflow cannot write to such a URI.
    """
    file = SweepFolder(root, name).config
    told = _section(file) if file.is_file() else Tracking()
    return tracking_uri(uri or told.uri, root), experiment or told.experiment


def _section(file: Path) -> Tracking:
    """Return the section ``tracking`` of a FILE that was valid when its sweep began."""
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
        return Tracking.model_validate(content.get("tracking") or {})
    except (OSError, ValueError, AttributeError, yaml.YAMLError) as error:
        line = str(error).splitlines()[0]
        problem = f"{file} cannot be read: {line}; give --tracking-uri and --experiment"
        raise ConfigError(Problem("NAME", problem)) from error
