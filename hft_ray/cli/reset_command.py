"""``hft-ray reset``."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Annotated, Literal

import typer

from hft_ray.cli.options import Json, Storage, finite
from hft_ray.cli.weight_options import Base, Out, Tuned, say

# What a selection calls trained is what is drawn, and here what is drawn is reset.
_EMBEDDINGS: dict[str, Literal["trained", "frozen", "selected"]] = {
    "tuned": "frozen",
    "reset": "trained",
    "selected": "selected",
}


def reset(
    tuned: Tuned,
    base: Base,
    out: Out,
    ratio: Annotated[
        float,
        typer.Option("--ratio", min=0, max=1, callback=finite, help="Share that is reset."),
    ] = 0.5,
    granularity: Annotated[
        Literal["model", "layer", "category"],
        typer.Option("--granularity", help="What is drawn: any matrices, layers, or by category."),
    ] = "category",
    budget: Annotated[
        Literal["matrices", "parameters"],
        typer.Option("--budget", help="What the ratio counts."),
    ] = "matrices",
    seed: Annotated[int, typer.Option("--seed", help="Seed of the draw.")] = 0,
    embeddings: Annotated[
        Literal["tuned", "reset", "selected"],
        typer.Option(
            "--embeddings",
            help="Whatever lies outside the layers: stays tuned, is reset, or is drawn too.",
        ),
    ] = "tuned",
    storage: Storage = None,
    as_json: Json = False,
) -> None:
    """Put a share of a tuned model's matrices back to the base's values (half-reset, no training).

    One tensor at a time: the models need not fit into memory.

    Example: hft-ray reset result/model --base package:hft_ray/demo/model --ratio 0.5 --out half
    """
    from hft_ray.config import ConfigError, Problem, Selection
    from hft_ray.out_folder import check_new
    from hft_ray.storage_root import storage_root

    begun = time.perf_counter()
    if ratio == 0:
        raise ConfigError(Problem("--ratio", "must be greater than 0", ratio))
    selection = Selection(
        ratio=ratio,
        granularity=granularity,
        budget=budget,
        seed=seed,
        embeddings=_EMBEDDINGS[embeddings],
    )
    check_new(out, {"TUNED": tuned, "--base": base})
    cache = storage_root(storage) / "cache"
    from hft_ray.weights import find_directory, half_reset

    folders = find_directory(tuned, "TUNED", cache), find_directory(base, "BASE", cache)
    done = half_reset(*folders, selection, out)
    seconds = time.perf_counter() - begun
    say(
        {"out": str(out), **asdict(done), "seconds": seconds},
        f"{out}: {len(done.units)} matrices are the base's again, "
        f"{done.fractions.block_parameters:.1%} of the parameters in the layers and "
        f"{done.fractions.model_parameters:.1%} of the whole model; {done.changed_tensors} of "
        f"{done.tensors} tensors changed ({seconds:.1f} s)",
        as_json,
    )
