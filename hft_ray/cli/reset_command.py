"""``hft-ray reset``."""

from __future__ import annotations

import time
from typing import Annotated, Literal

import typer

from hft_ray.cli.options import Json, Storage, finite
from hft_ray.cli.weight_options import Base, Out, Tuned, find_models, report_done

# The draw of a selection says what is trained; here it says what is reset.
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
        typer.Option("--ratio", min=0, max=1, callback=finite, help="Share to reset."),
    ] = 0.5,
    granularity: Annotated[
        Literal["model", "layer", "category"],
        typer.Option("--granularity", help="Draw matrices, whole layers, or matrices by category."),
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
            help="Parameters outside the layers: kept as tuned, reset, or drawn too.",
        ),
    ] = "tuned",
    storage: Storage = None,
    as_json: Json = False,
) -> None:
    """Set a share of a tuned model's matrices back to the base's values, without training.

    Works on one tensor at a time, so the models need not fit into memory.

    Example: hft-ray reset result/model --base package:hft_ray/demo/model --ratio 0.5 --out half
    """
    from hft_ray.config import ConfigError, Problem, Selection

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
    folders = find_models(tuned, base, out, storage)
    from hft_ray.weights import half_reset

    done = half_reset(*folders, selection, out)
    sentence = (
        f"{len(done.units)} matrices have the base's values again, "
        f"{done.fractions.block_parameters:.1%} of the parameters in the layers and "
        f"{done.fractions.model_parameters:.1%} of the whole model; {done.changed_tensors} of "
        f"{done.tensors} tensors changed"
    )
    report_done(out, done, begun, sentence, as_json)
