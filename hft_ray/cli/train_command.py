"""``hft-ray train``."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from hft_ray.cli.options import File, Json, Overrides, Storage
from hft_ray.strict_json import dumps


def train(
    file: File,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder of the result.")],
    resume: Annotated[
        bool, typer.Option("--resume", help="Resume from the newest checkpoint in DIR.")
    ] = False,
    overrides: Overrides = None,
    storage: Storage = None,
    as_json: Json = False,
) -> None:
    """Fine-tune once, without Ray, alone or under torchrun; the search section is not used.

    Example: hft-ray train run.yaml --out result --set selection.ratio=0.25

    Example: torchrun --nproc-per-node 2 -m hft_ray train run.yaml --out result
    """
    from hft_ray.config.load import load
    from hft_ray.storage_root import storage_root

    config = load(file, overrides or ()).model_copy(update={"search": None})
    root = storage_root(storage)
    # Heavy imports wait until FILE is known to be right.
    from hft_ray.cli import train_run

    result = train_run.run_once(config, str(file), root, out, resume, as_json)
    if as_json and result is not None:
        typer.echo(dumps(result))
    if "WORLD_SIZE" in os.environ:
        # Under torchrun a thread of gloo's may outlive its process group, and would abort the
        # interpreter's end with an exit code of its own.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)
