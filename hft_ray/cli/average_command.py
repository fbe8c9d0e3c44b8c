"""``hft-ray average``."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from hft_ray.cli.options import Json, Storage, finite
from hft_ray.cli.weight_options import Base, Out, Tuned, find_models, report_done


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
    depth: Annotated[
        float,
        typer.Option(
            "--depth",
            min=-1,
            max=1,
            callback=finite,
            help="Added to alpha from the first layer (nothing) to the last (all of it).",
        ),
    ] = 0.0,
    storage: Storage = None,
    as_json: Json = False,
) -> None:
    """Interpolate between the base and the tuned model: base + alpha (tuned - base).

    With --depth D the share of a layer is alpha + D d, where d is 0 for the first layer and the
    embeddings, 1 for the last layer, the final norm and the head.

    Works on one tensor at a time, so the models need not fit into memory.

    Example: hft-ray average result/model --base package:hft_ray/demo/model --alpha 0.5 --out mixed
    """
    begun = time.perf_counter()
    folders = find_models(tuned, base, out, storage)
    from hft_ray.weights import average as average_models

    done = average_models(*folders, alpha, out, depth)
    sentence = (
        f"{done.changed_tensors} of {done.tensors} tensors changed; tuning had changed those with "
        f"{done.differing_fraction:.1%} of the parameters"
    )
    report_done(out, done, begun, sentence, as_json, alpha=alpha, depth=depth)
