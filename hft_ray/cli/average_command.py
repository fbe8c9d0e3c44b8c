"""``hft-ray average``."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Annotated

import typer

from hft_ray.cli.options import Json, Storage, finite
from hft_ray.cli.weight_options import Base, Out, Tuned, say


def average(
    tuned: Tuned,
    base: Base,
    alpha: Annotated[
        float,
        typer.Option(
            "--alpha", min=0, max=1, callback=finite, help="0 gives the base, 1 the tuned model."
        ),
    ],
    out: Out,
    storage: Storage = None,
    as_json: Json = False,
) -> None:
    """Interpolate between the base and the tuned model: base + alpha (tuned - base).

    One tensor at a time: the models need not fit into memory.

    Example: hft-ray average result/model --base package:hft_ray/demo/model --alpha 0.5 --out mixed
    """
    from hft_ray.out_folder import check_new
    from hft_ray.storage_root import storage_root

    begun = time.perf_counter()
    check_new(out, {"TUNED": tuned, "--base": base})
    cache = storage_root(storage) / "cache"
    from hft_ray.weights import average as average_models
    from hft_ray.weights import find_directory

    folders = find_directory(tuned, "TUNED", cache), find_directory(base, "BASE", cache)
    done = average_models(*folders, alpha, out)
    seconds = time.perf_counter() - begun
    say(
        {"out": str(out), "alpha": alpha, **asdict(done), "seconds": seconds},
        f"{out}: {done.changed_tensors} of {done.tensors} tensors changed; tuning had changed "
        f"those with {done.differing_fraction:.1%} of the parameters ({seconds:.1f} s)",
        as_json,
    )
