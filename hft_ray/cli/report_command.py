"""``hft-ray report``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from hft_ray.cli.options import Experiment, Json, Storage, SweepName, Uri
from hft_ray.strict_json import dumps

if TYPE_CHECKING:
    from hft_ray.pareto import Front, Point


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
    uri: Uri = None,
    experiment: Experiment = "hft-ray",
    storage: Storage = None,
    as_json: Json = False,
) -> None:
    """Write the report of a sweep again, from MLflow alone; choose one of its trials.

    With bounds, the best trial in the objective without a bound is chosen; with several such
    objectives, their knee.

    Example: hft-ray report demo --select 'task/score>=0.95'
    """
    from hft_ray.orchestration.folder import SweepFolder
    from hft_ray.orchestration.fronts import config_of, front_of, searched
    from hft_ray.report import front_json
    from hft_ray.report.files import write_front
    from hft_ray.storage_root import storage_root
    from hft_ray.tracking import read_sweep, tracking_uri

    root = storage_root(storage)
    record = read_sweep(tracking_uri(uri, root), experiment, name)
    config = config_of(record)
    front = front_of(record, config)
    chosen = None if select is None else _chosen(front, select)
    folder = SweepFolder(root, name)
    folder.mark()
    files = write_front(front, searched(config), folder.path / "front")
    if as_json:
        content: dict[str, Any] = json.loads(front_json(front))
        if chosen is not None:
            content["selected"] = chosen.trial
        typer.echo(dumps(content))
        return
    _print(front, chosen, select, str(files[1]))


def _chosen(front: Front, rule: str) -> Point:
    from hft_ray.config import ConfigError, Problem
    from hft_ray.pareto import ChoiceError, choose

    try:
        return choose(front, rule)
    except ChoiceError as error:
        raise ConfigError(Problem("--select", str(error), rule)) from error


def _print(front: Front, chosen: Point | None, rule: str | None, page: str) -> None:
    from hft_ray.cli.tables import arm_tables, front_table
    from hft_ray.report import estimate_text, format_setting, format_value

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
    console.print(f"report: {page}", soft_wrap=True)
