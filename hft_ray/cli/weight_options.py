"""What ``reset``, ``average`` and ``apply`` share: options, and how they say what was done."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from hft_ray.strict_json import dumps

Tuned = Annotated[
    str,
    typer.Argument(metavar="TUNED", help="Tuned model: a directory, package:..., a GGUF file."),
]
Base = Annotated[
    str,
    typer.Option(
        "--base", metavar="BASE", help="The model it was tuned from: a directory, or as TUNED."
    ),
]
Out = Annotated[Path, typer.Option("--out", metavar="DIR", help="The new model directory.")]


def say(done: dict[str, Any], sentence: str, as_json: bool) -> None:
    """Print what was done, as JSON or as one sentence."""
    typer.echo(dumps(done) if as_json else sentence)
