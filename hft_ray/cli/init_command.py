"""``hft-ray init``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from hft_ray.cli.options import Json, Storage
from hft_ray.strict_json import dumps


def init(
    model: Annotated[
        str,
        typer.Argument(
            help="Hugging Face directory, GGUF file, package:MODULE/PATH or hub name.",
            metavar="MODEL",
        ),
    ],
    data: Annotated[
        str,
        typer.Argument(
            help="A .csv, .tsv, .jsonl, .json, .parquet, .txt or .md file, a folder of them, a "
            "saved data set, or a hub name.",
            metavar="DATA",
        ),
    ],
    test: Annotated[
        str | None, typer.Option(help="Held-out data; default a tenth of DATA.", metavar="DATA")
    ] = None,
    keep: Annotated[
        str | None,
        typer.Option(help="Suite of general evaluations.", metavar="SUITE"),
    ] = None,
    hours: Annotated[float, typer.Option(help="Time for the sweep, in hours.", min=0.01)] = 2.0,
    name: Annotated[str | None, typer.Option(help="Name of the sweep and of FILE.")] = None,
    interactive: Annotated[
        bool, typer.Option("--interactive", help="Ask for options that are not given.")
    ] = False,
    storage: Storage = None,
    as_json: Json = False,
) -> None:
    """Write a FILE that runs, with a comment on every line, for a model and your data.

    Example: hft-ray init ./my-model answers.csv --hours 2
    """
    name = name or _name_of(data)
    if interactive:
        name = typer.prompt("Name of the sweep", default=name)
        hours = typer.prompt("Hours for the sweep", default=hours, type=float)
        keep = typer.prompt("Suite of general evaluations", default=keep or "auto")
        keep = None if keep == "auto" else keep
    from hft_ray.config import ConfigError, Model, Problem
    from hft_ray.config.load import load
    from hft_ray.config.sections.suites import suite_names
    from hft_ray.ranks import Ranks
    from hft_ray.scaffold import Wishes, first_file, read_source, this_machine, write
    from hft_ray.storage_root import storage_root

    if keep is not None and not keep.endswith(".yaml") and keep not in suite_names():
        known = f"is not a suite; known are {', '.join(suite_names())}, or a .yaml file"
        raise ConfigError(Problem("--keep", known, keep))
    source = read_source(data, test)
    import torch

    from hft_ray.training import Workspace, check

    workspace = Workspace(storage_root(storage), Ranks(), torch.device("cpu"))
    wishes = Wishes(name, hours, keep)
    first = first_file(Model(name=model), source, wishes, this_machine(), workspace)
    written = write(first, name, Path())
    file = written[0]
    try:
        # plan and tune will read the written file.
        check(load(file, ()), workspace, str(file), trust_hub=True)
    except ConfigError:
        for path in written:
            path.unlink()
        raise
    if as_json:
        typer.echo(dumps({"file": str(file), "files": [str(each) for each in written[1:]]}))
        return
    for line in first.summary:
        typer.echo(line)
    typer.echo(f"wrote {', '.join(map(str, written))}")
    typer.echo(f"next: hft-ray plan {file}, then: hft-ray tune {file}")


def _name_of(data: str) -> str:
    """Return a name for the sweep, from that of the data."""
    stem = Path(data.rstrip("/")).stem if "/" in data or "." in data else data
    return re.sub(r"[^a-z0-9]+", "-", stem.lower()).strip("-") or "sweep"
