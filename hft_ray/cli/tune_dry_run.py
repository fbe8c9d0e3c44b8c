"""``hft-ray tune --dry-run`` on the terminal: one table of the nodes, then what is wrong."""

from __future__ import annotations

import typer
from rich.console import Console

from hft_ray.cli.tables import plain_table
from hft_ray.config import ConfigError
from hft_ray.orchestration.dry_run import CheckedNode, DryRun
from hft_ray.strict_json import dumps

COLUMNS = ("root", "mirror", "files", "devices")


def show(found: DryRun, source: str, as_json: bool) -> None:
    """Print what a dry run found.

    Raises:
        ConfigError: Something is wrong.
    """
    if as_json:
        typer.echo(dumps(found.to_json()))
    elif found.nodes:
        Console(highlight=False).print(plain_table("Nodes", [_row(each) for each in found.nodes]))
    if found.problems:
        raise ConfigError(found.problems, source)
    if not as_json:
        typer.echo("Everything is ready. Nothing was started.")


def _row(node: CheckedNode) -> dict[str, str]:
    report = node.report
    row = {"node": node.name + (" driver" if node.driver else "")}
    row |= {
        name: "wrong" if name in report.problems else report.found.get(name, "-")
        for name in COLUMNS
    }
    same = "wrong" if "versions" in report.problems else "the same"
    return row | {"versions": same if report.versions else "-"}
