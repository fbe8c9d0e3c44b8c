"""``hft-ray apply``."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from hft_ray.cli.options import Json, Storage
from hft_ray.cli.weight_options import Base, Out, report_done


def apply(
    delta: Annotated[
        Path, typer.Argument(metavar="DELTA", help="Directory that export --delta wrote.")
    ],
    base: Base,
    out: Out,
    storage: Storage = None,
    as_json: Json = False,
) -> None:
    """Rebuild the whole model from a delta and its base; the tensors equal those of a full export.

    Example: hft-ray apply delta --base package:hft_ray/demo/model --out whole
    """
    from hft_ray.out_folder import check_new
    from hft_ray.storage_root import storage_root

    begun = time.perf_counter()
    check_new(out, {"DELTA": delta, "--base": base})
    cache = storage_root(storage) / "cache"
    from hft_ray.weights import apply_delta, find_directory

    done = apply_delta(delta, find_directory(base, "BASE", cache), out)
    sentence = (
        f"{done.stored_tensors} of {done.tensors} tensors from the delta, the others from the base"
    )
    report_done(out, done, begun, sentence, as_json)
