"""``hft-ray schema``."""

from __future__ import annotations

import json

import typer


def schema() -> None:
    """Print the JSON schema of FILE.

    Example: hft-ray schema > hft-ray.schema.json
    """
    from hft_ray.config import Config

    typer.echo(json.dumps(Config.model_json_schema(), indent=2))
