"""``hft-ray``: the commands, and how each reports errors and interrupts.

A command imports what it needs when it is called, so that ``--help`` answers at once.
"""

from __future__ import annotations

import gc
import sys

import typer
from rich.console import Console

from hft_ray import __version__
from hft_ray.cli.apply_command import apply
from hft_ray.cli.average_command import average
from hft_ray.cli.compare_command import compare
from hft_ray.cli.evaluate_command import evaluate
from hft_ray.cli.export_command import export
from hft_ray.cli.init_command import init
from hft_ray.cli.plan_command import plan
from hft_ray.cli.report_command import report
from hft_ray.cli.reset_command import reset
from hft_ray.cli.schema_command import schema
from hft_ray.cli.status_command import status
from hft_ray.cli.stop_command import stop
from hft_ray.cli.train_command import train
from hft_ray.cli.tune_command import tune

COLLECT_AFTER = 50_000
"""New objects between two garbage collections.

Python's own 700 costs a fifth of a short command: imports make many objects, and all of them stay.
"""

app = typer.Typer(
    name="hft-ray",
    help="Fine-tune a language model on your task with the least forgetting.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode="rich",
)
app.command(name="init")(init)
app.command(name="plan")(plan)
app.command(name="tune")(tune)
app.command(name="status")(status)
app.command(name="stop")(stop)
app.command(name="report")(report)
app.command(name="export")(export)
app.command(name="compare")(compare)
app.command(name="train")(train)
app.command(name="evaluate")(evaluate)
app.command(name="reset")(reset)
app.command(name="average")(average)
app.command(name="apply")(apply)
app.command(name="schema")(schema)


@app.callback(invoke_without_command=True)
def _version(version: bool = typer.Option(False, "--version", help="Print the version.")) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit


def main() -> None:
    """Run the command line. Exit codes: 0 done, 1 failed, 2 usage or configuration, 130 stopped."""
    gc.set_threshold(COLLECT_AFTER)
    try:
        app(standalone_mode=True)
    except KeyboardInterrupt:
        _errors().print("interrupted", style="yellow")
        sys.exit(130)
    except Exception as error:
        code = _explain(error)
        if code is None:
            raise
        sys.exit(code)


def _explain(error: Exception) -> int | None:
    """Print what is wrong and what to do; return the exit code, None for an unforeseen error."""
    from hft_ray.config import ConfigError
    from hft_ray.disk_errors import disk_problem

    console = _errors()
    if isinstance(error, ConfigError):
        console.print("[bold red]error:[/] ", end="")
        console.print(str(error), markup=False)
        console.print("Nothing was started.", style="dim")
        return 2
    if (problem := disk_problem(error)) is None:
        return None
    console.print("[bold red]failed:[/] ", end="")
    console.print(problem, markup=False)
    console.print("Free space, or make the folder writable; then run the command again.")
    return 1


def _errors() -> Console:
    return Console(stderr=True, highlight=False, soft_wrap=True)
