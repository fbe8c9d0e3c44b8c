"""``hft-ray schema``."""

from __future__ import annotations

import json

import typer

from hft_ray.config import Config


def schema() -> None:
    """Print the JSON schema of FILE.

    Example: hft-ray schema > hft-ray.schema.json
    """
    typer.echo(json.dumps(Config.model_json_schema(), indent=2))
