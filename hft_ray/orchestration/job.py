"""What a Ray job tells its entrypoint about itself."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping

from hft_ray.tracking import JOB

_VARIABLE = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""Ray's job manager sets it: JSON, the runtime environment and the metadata of the job."""
_ID, _NAME = "job_submission_id", "job_name"


def job_tags(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the tags of a sweep that is a Ray job's entrypoint; none of any other.

    ``hft_ray.job`` is the submission id, ``hft_ray.job.KEY`` what was given as metadata (``ray job
    submit --metadata-json``). The runtime environment is left out: it may hold secrets.
    """
    try:
        metadata = json.loads(environment.get(_VARIABLE, "{}")).get("metadata") or {}
    except (ValueError, AttributeError):
        return {}
    if not isinstance(metadata, dict):
        return {}
    tags = {JOB: str(metadata[_ID])} if _ID in metadata else {}
    given = {key: text for key, text in metadata.items() if key not in (_ID, _NAME)}
    return tags | {f"{JOB}.{key}": str(text) for key, text in given.items()}
