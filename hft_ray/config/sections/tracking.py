"""Section ``tracking`` of FILE."""

from __future__ import annotations

from pydantic import field_validator

from hft_ray.config.secrets import NOT_HERE, holds_secret
from hft_ray.config.sections.section import Section


class Tracking(Section):
    """Where results are logged."""

    uri: str | None = None
    """MLflow tracking server or store; default: a local sqlite store under the storage root."""
    experiment: str = "hft-ray"
    """MLflow experiment."""

    @field_validator("uri")
    @classmethod
    def _no_secret(cls, uri: str | None) -> str | None:
        if uri is not None and holds_secret(uri):
            raise ValueError(NOT_HERE)
        return uri
