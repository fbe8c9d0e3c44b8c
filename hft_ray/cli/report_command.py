"""``hft-ray report``."""

from __future__ import annotations

import json
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from hft_ray.cli.options import Experiment, Json, Storage, SweepName, Uri
from hft_ray.strict_json import dumps

if TYPE_CHECKING:
    from hft_ray.actions.reporting import Report


def report(
    name: SweepName,
    select: Annotated[
        str | None,
        typer.Option(
            metavar="RULE",
            help="Choose a trial: knee, best:METRIC, trial:ID, or bounds such as "
            "'task/score>=0.9,cost/device_seconds<=60'.",
        ),
    ] = None,
    open_page: Annotated[
        bool, typer.Option("--open", help="Open the page of the report in a browser.")
    ] = False,
    pdf: Annotated[
        Path | None,
        typer.Option(metavar="FILE", dir_okay=False, help="Write the picture of the front as PDF."),
    ] = None,
    uri: Uri = None,
    experiment: Experiment = None,
    storage: Storage = None,
    as_json: Json = False,
) -> None:
    """Write the report of a sweep again, from MLflow alone; choose one of its trials.

    With bounds, the best trial in the objective without a bound is chosen; with several such
    objectives, their knee.

    Example: hft-ray report demo --select 'task/score>=0.95'
    """
    from hft_ray.actions.reporting import report as write_report
    from hft_ray.report import front_json

    found = write_report(name, select, storage=storage, tracking_uri=uri, experiment=experiment)
    if pdf is not None:
        from hft_ray.report.front_png import render_png

        pdf.parent.mkdir(parents=True, exist_ok=True)
        render_png(found.front, pdf, "pdf")
    if open_page:
        webbrowser.open(found.files[1].as_uri())
    if as_json:
        content: dict[str, Any] = json.loads(front_json(found.front))
        if found.chosen is not None:
            content["selected"] = found.chosen.trial
        typer.echo(dumps(content))
        return
    _print(found, select)


def _print(found: Report, rule: str | None) -> None:
    from hft_ray.cli.tables import arm_tables, front_table
    from hft_ray.report import estimate_text, format_setting, format_value

    front, chosen = found.front, found.chosen
    console = Console(highlight=False)
    for table in (front_table(front), *arm_tables(front)):
        console.print(table)
    certainty = front.certainty
    noise = (
        f", bias-corrected {estimate_text(certainty.hypervolume)} (95 % CI)" if certainty else ""
    )
    console.print(f"hypervolume {front.hypervolume:.4g}{noise}", markup=False)
    if chosen is not None:
        console.print(f"\n{rule}: {chosen.label}", style="bold", markup=False)
        values = {k: format_value(x, chosen.errors.get(k)) for k, x in chosen.values.items()}
        settings = {key: format_setting(value) for key, value in chosen.params.items()}
        for key, shown in {**values, **settings}.items():
            console.print(f"  {key}: {shown}", markup=False, soft_wrap=True)
    if found.cost is not None:
        console.print(f"trials took {found.cost}")
    console.print(f"report: {found.files[1]}", soft_wrap=True)
