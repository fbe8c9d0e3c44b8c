"""Arguments and options that several commands share."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer


def finite(number: float) -> float:
    """Refuse a number that is not finite, which no bound does."""
    if not math.isfinite(number):
        raise typer.BadParameter(f"{number} is not a finite number")
    return number


SweepName = Annotated[str, typer.Argument(metavar="NAME", help="Name of the sweep.")]
File = Annotated[Path, typer.Argument(help="YAML file of a run or sweep.", metavar="FILE")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a setting of FILE; repeatable."),
]
Storage = Annotated[
    Path | None,
    typer.Option(
        "--storage", metavar="DIR", help="Storage root; default $HFT_RAY_HOME, else ~/hft-ray."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Uri = Annotated[
    str | None,
    typer.Option(
        "--tracking-uri", help="MLflow server or store; default the sweep's own, else local."
    ),
]
Experiment = Annotated[
    str | None, typer.Option(help="MLflow experiment; default the sweep's own, else hft-ray.")
]
