"""Options, inputs and output that ``reset``, ``average`` and ``apply`` share."""

from __future__ import annotations

import time
from dataclasses import asdict
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
        "--base",
        metavar="BASE",
        help="Base of TUNED: a directory, package:..., a GGUF file.",
    ),
]
Out = Annotated[Path, typer.Option("--out", metavar="DIR", help="The new model directory.")]


def find_models(tuned: str, base: str, out: Path, storage: Path | None) -> tuple[Path, Path]:
    """Return the directories of the tuned model and of its base; ``out`` must be new.

    Raises:
        ConfigError: A model is missing, or ``out`` cannot be made.
    """
    from hft_ray.out_folder import check_new
    from hft_ray.storage_root import storage_root

    check_new(out, {"TUNED": tuned, "--base": base})
    cache = storage_root(storage) / "cache"
    from hft_ray.weights import find_directory

    return find_directory(tuned, "TUNED", cache), find_directory(base, "BASE", cache)


def report_done(
    out: Path,
    done: Any,
    begun: float,
    sentence: str,
    as_json: bool,
    **settings: Any,
) -> None:
    """Print what was done, as JSON or as one sentence.

    Args:
        out: The new model directory.
        done: The numbers of the work, a dataclass.
        begun: ``time.perf_counter()`` at its start.
        sentence: The same in words.
        as_json: Print JSON.
        settings: Options to repeat in the JSON.
    """
    seconds = time.perf_counter() - begun
    if as_json:
        typer.echo(dumps({"out": str(out), **settings, **asdict(done), "seconds": seconds}))
    else:
        typer.echo(f"{out}: {sentence} ({seconds:.1f} s)")
