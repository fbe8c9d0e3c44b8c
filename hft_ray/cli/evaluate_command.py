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
            "--base", metavar="BASE", help="What MODEL was tuned from; default FILE's model."
        ),
    ] = None,
    overrides: Overrides = None,
    storage: Storage = None,
    as_json: Json = False,
) -> None:
    """Score a model on FILE's evaluations, and what it forgot since its base.

    Every score comes with its standard error and 95 % interval; what was forgotten with those of
    the paired difference on the same items. Scores of weights that were scored before are not
    computed again. FILE needs no name, model and data. Alone or under torchrun.

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
