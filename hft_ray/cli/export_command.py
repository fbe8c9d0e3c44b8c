"""``hft-ray export``."""

from __future__ import annotations

from typing import Annotated

import typer

from hft_ray.cli.options import Json, Storage, SweepName
from hft_ray.strict_json import dumps


def export(
    name: SweepName,
    select: Annotated[
        str,
        typer.Option(
            "--select",
            help="knee, best:METRIC, trial:ID (trial:t0003+alpha-0.5 for a variant), METRIC>=X.",
        ),
    ],
    out: Annotated[
        str,
        typer.Option(
            "--out", metavar="DIR", help="The new model directory, or s3://BUCKET/PREFIX."
        ),
    ],
    delta: Annotated[
        bool,
        typer.Option("--delta", help="Write only the difference from the base, for hft-ray apply."),
    ] = False,
    uri: Annotated[
        str | None,
        typer.Option("--tracking-uri", help="MLflow server or store; default the sweep's own."),
    ] = None,
    storage: Storage = None,
    as_json: Json = False,
) -> None:
    """Write a model of a sweep's front as a Hugging Face directory.

    Example: hft-ray export demo --select knee --out knee
    """
    from hft_ray.actions.exporting import export as write_model

    point = write_model(name, select, out, delta=delta, storage=storage, tracking_uri=uri)
    if as_json:
        chosen = {"out": out, "trial": point.trial, "variant": point.variant}
        typer.echo(dumps(chosen | {"values": point.values}))
        return
    scores = ", ".join(f"{key} {value:.4g}" for key, value in sorted(point.values.items()))
    typer.echo(f"{out}: {point.label} ({scores})")
