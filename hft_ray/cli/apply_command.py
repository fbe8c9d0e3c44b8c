"""``hft-ray apply``."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from hft_ray.cli.options import Json, Storage
from hft_ray.cli.weight_options import Base, Out, say


def apply(
    delta: Annotated[
        Path, typer.Argument(metavar="DELTA", help="Directory that export --delta has made.")
    ],
    base: Base,
    out: Out,
    storage: Storage = None,
    as_json: Json = False,
) -> None:
    """Make the whole model of a delta and its base; its tensors equal the full export's.

    Example: hft-ray apply delta --base package:hft_ray/demo/model --out whole
    """
    from hft_ray.out_folder import check_new
    from hft_ray.storage_root import storage_root

    begun = time.perf_counter()
    check_new(out, {"DELTA": delta, "--base": base})
    cache = storage_root(storage) / "cache"
    from hft_ray.weights import apply_delta, find_directory

    done = apply_delta(delta, find_directory(base, "BASE", cache), out)
    seconds = time.perf_counter() - begun
    say(
        {"out": str(out), **asdict(done), "seconds": seconds},
        f"{out}: {done.stored_tensors} of {done.tensors} tensors from the delta, the others from "
        f"the base ({seconds:.1f} s)",
        as_json,
    )
