"""``hft-ray plan``."""

from __future__ import annotations

from typing import Any

import typer
from rich.console import Console
from rich.table import Table

from hft_ray.cli.options import File, Json, Overrides, Storage
from hft_ray.cli.sweep_progress import clock
from hft_ray.strict_json import dumps


def plan(
    file: File, overrides: Overrides = None, storage: Storage = None, as_json: Json = False
) -> None:
    """Validate FILE, model and data and show what would run, without training.

    Example: hft-ray plan search_spaces/demo.yaml
    """
    from hft_ray.config.load import load
    from hft_ray.storage_root import storage_root

    config = load(file, overrides or ())
    root = storage_root(storage)
    import torch

    from hft_ray.ranks import Ranks
    from hft_ray.training import Workspace, check
    from hft_ray.training.methods import known_sequences, make_stages
    from hft_ray.training.plan import plan as make_plan

    workspace = Workspace(root, Ranks(), torch.device("cpu"))
    trusted = check(config, workspace, str(file), trust_hub=True)
    sections = [*config.training_data.values(), *config.pair_data.values()]
    needed = {config.model.name, *(each.train for each in sections)}
    sequences = known_sequences(config)
    if sequences is None and not needed & set(trusted):
        sequences = sum(stage.sequences for stage in make_stages(config, workspace))
    planned = make_plan(config, workspace, sequences)
    away = None
    if config.search is not None:
        from hft_ray.tracking import probe, tracking_uri

        where = tracking_uri(config.tracking.uri, root)
        away = probe(where, config.tracking.experiment, root, write=False)
    if away is not None:
        planned["problems"].append(f"the tracking store {where} does not answer: {away}")
    if as_json:
        typer.echo(dumps(planned))
    else:
        _show(planned, trusted, Console(highlight=False))


def _show(planned: dict[str, Any], trusted: list[str], console: Console) -> None:
    model, further, seconds = (
        planned[key] for key in ("model", "further_seeds", "seconds_estimate")
    )
    seeds = f" and at most {further} further seeds" if further else ""
    console.print(
        f"{planned['trials']} trials{seeds} on {planned['groups']} groups x "
        f"{planned['workers']} workers; model of {model['parameters']:,} parameters, "
        f"{model['matrices']} matrices in its layers"
    )
    console.print(_fractions(planned["selection"]))
    memory = planned["memory_per_worker_bytes"]
    parts = ", ".join(f"{kind} {_bytes(size)}" for kind, size in memory.items())
    console.print(
        f"memory per worker at the largest ratio: {_bytes(sum(memory.values()))} ({parts})"
    )
    most = ""
    if further and seconds is not None:
        most = f", with all further seeds {clock(seconds * (1 + further / planned['trials']))}"
    console.print(
        "estimated training time, for sequences of data.max_length and without evaluations: "
        f"about {clock(seconds)}{most}"
    )
    for problem in planned["problems"]:
        console.print(problem, style="yellow", soft_wrap=True, markup=False)
    for name in trusted:
        console.print(f"not checked, because it is on a hub: {name}", style="yellow")


def _fractions(rows: list[dict[str, Any]]) -> Table:
    """Return the shares that are trained at the corners of the search space, as a table."""
    table = Table(title="Trainable fractions at the corners of the space", title_justify="left")
    settings = ("arm", "granularity", "ratio", "budget", "embeddings")
    columns = settings if any(row["arm"] for row in rows) else settings[1:]
    for column in columns:
        table.add_column(column)
    for column in ("matrices", "block parameters", "whole model"):
        table.add_column(column, justify="right")
    for row in rows:
        shown = row | {"ratio": f"{row['ratio']:g}"}
        shares = (f"{value:.1%}" for value in row["fractions"].values())
        table.add_row(*(shown[column] for column in columns), *shares)
    return table


def _bytes(size: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024 or unit == "GiB":
            return f"{size:.4g} {unit}"
        size /= 1024
    raise AssertionError
