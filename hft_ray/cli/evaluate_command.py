"""``hft-ray evaluate``."""

from __future__ import annotations

from typing import Annotated

import typer

from hft_ray.cli.options import File, Json, Overrides, Storage
from hft_ray.strict_json import dumps


def evaluate(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL", help="A Hugging Face directory, a GGUF file, package:..., a hub name."
        ),
    ],
    file: File,
    base: Annotated[
        str | None,
        typer.Option(
            "--base",
            metavar="BASE",
            help="Base of MODEL; default FILE's model.",
        ),
    ] = None,
    overrides: Overrides = None,
    storage: Storage = None,
    as_json: Json = False,
) -> None:
    """Score a model on FILE's evaluations, and its forgetting against the base.

    Every score has a standard error and a 95 % interval; those of forgetting are of the paired
    differences on the same items. Weights that were scored before are not scored again. FILE may
    lack name, model and data. Runs alone or under torchrun.

    Example: hft-ray evaluate result/model run.yaml

    Example: hft-ray evaluate tuned.gguf run.yaml --base original.gguf --json
    """
    from hft_ray.config.load import load_to_score
    from hft_ray.storage_root import storage_root

    config = load_to_score(file, model, overrides or ()).model_copy(update={"search": None})
    root = storage_root(storage)
    # Heavy imports wait until FILE is known to be right.
    from hft_ray.cli import evaluate_scores

    result = evaluate_scores.run(config, root, model, base or config.model.name, as_json)
    if as_json and result is not None:
        typer.echo(dumps(result))
