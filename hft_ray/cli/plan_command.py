"""``hft-ray plan``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from hft_ray.cli.options import File, Json, Overrides, Storage
from hft_ray.strict_json import dumps

if TYPE_CHECKING:
    from hft_ray.training.plan import Plan


def plan(
    file: File,
    overrides: Overrides = None,
    storage: Storage = None,
    probe: Annotated[
        bool,
        typer.Option("--probe", help="Train a few steps here, and tell the time from them."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Validate FILE, model and data and show what would run, without training.

    Example: hft-ray plan search_spaces/demo.yaml
    """
    from hft_ray.actions.planning import plan as make_plan
    from hft_ray.config.load import load

    config = load(file, overrides or ())
    planned = make_plan(config, storage=storage, source=str(file), probe=probe)
    if as_json:
        typer.echo(dumps(planned))
    else:
        _show(planned, Console(highlight=False))


def _show(planned: Plan, console: Console) -> None:
    from hft_ray.device_cost import DeviceCost
    from hft_ray.orchestration.sweep_lines import bytes_text, clock

    model, seconds = planned["model"], planned["seconds_estimate"]
    further = planned["further_seeds"]
    seeds = f" and at most {further} further seeds" if further else ""
    console.print(
        f"{planned['trials']} trials{seeds} on {planned['groups']} groups x "
        f"{planned['workers']} workers; model of {model['parameters']:,} parameters, "
        f"{model['matrices']} matrices in its layers"
    )
    console.print(_fractions(planned["selection"]))
    memory = planned["memory_per_worker_bytes"]
    parts = ", ".join(f"{kind} {bytes_text(size)}" for kind, size in memory.items())
    console.print(
        f"memory per worker at the largest ratio: {bytes_text(sum(memory.values()))} ({parts})"
    )
    most = ""
    if further and seconds is not None:
        most = f", with all further seeds {clock(seconds * (1 + further / planned['trials']))}"
    if (measured := planned["probe"]) is not None:
        console.print(
            f"measured here: {measured['step_seconds']:.3g} s a step, "
            f"{measured['score_seconds']:.3g} s an evaluation"
        )
        what = "time of all trials, by the measured steps and evaluations"
    else:
        what = "estimated training time, for sequences of data.max_length and without evaluations"
    console.print(f"{what}: about {clock(seconds)}{most}")
    if planned["device_hours_estimate"] is not None:
        cost = DeviceCost(planned["device_hours_estimate"], planned["price_estimate"])
        every = cost.times(1 + further / planned["trials"])
        most = f"; with all further seeds {every}" if further else ""
        console.print(f"that is about {cost}{most}")
    for problem in planned["problems"]:
        console.print(problem, style="yellow", soft_wrap=True, markup=False)
    for name in planned["unchecked"]:
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
