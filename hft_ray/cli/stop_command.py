"""``hft-ray stop``."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from hft_ray.cli.options import Experiment, Json, Storage, SweepName, Uri, finite
from hft_ray.strict_json import dumps

if TYPE_CHECKING:
    from hft_ray.tracking import SweepRun


def stop(
    name: SweepName,
    finish_running: Annotated[
        bool,
        typer.Option(
            "--finish-running", help="Let running trials finish, without starting new ones."
        ),
    ] = False,
    timeout: Annotated[
        float,
        typer.Option(
            min=0, callback=finite, metavar="SECONDS", help="Longest wait for the sweep's end."
        ),
    ] = 60.0,
    uri: Uri = None,
    experiment: Experiment = None,
    storage: Storage = None,
    as_json: Json = False,
) -> None:
    """Ask a running sweep to end; the same hft-ray tune continues it later.

    The request goes through MLflow, so the command runs on any machine. Exit code 0: the sweep has
    ended, or with --finish-running accepts the request; 1: neither happened in time.

    Example: hft-ray stop demo --finish-running --tracking-uri http://mlflow.example.org:5000
    """
    from hft_ray.orchestration.sweep_place import tracked_at
    from hft_ray.storage_root import storage_root
    from hft_ray.tracking import SweepRun

    sweep = SweepRun(*tracked_at(storage_root(storage), name, uri, experiment), name)
    if sweep.state != "running":
        _print(sweep, name, f"{name} is not running: it is {sweep.state}", as_json)
        return
    sweep.ask("finish-running" if finish_running else "now")
    _wait(sweep, timeout)
    if sweep.state != "running":
        text = f"{name} has ended: it is {sweep.state}"
    elif sweep.taken and finish_running:
        text = f"{name} does not start new trials and ends after its running ones"
    else:
        _print(sweep, name, f"{name} is still running: {_why(sweep)}", as_json)
        raise typer.Exit(1)
    _print(sweep, name, text, as_json)


def _wait(sweep: SweepRun, timeout: float) -> None:
    """Look at the sweep every second until it has ended or ``timeout`` seconds have passed."""
    end = time.monotonic() + timeout
    while sweep.state == "running" and time.monotonic() < end:
        time.sleep(min(1.0, timeout))
        sweep.look()


def _why(sweep: SweepRun) -> str:
    if sweep.taken:
        return "it has received the request and is about to end"
    silence = sweep.silence
    ago = "none since it began" if silence is None else f"{silence:.0f} s ago"
    return (
        f"it has not answered, and its last sign was {ago}; if its driver was killed, there is "
        "nothing to stop, and hft-ray tune continues the sweep"
    )


def _print(sweep: SweepRun, name: str, text: str, as_json: bool) -> None:
    state = {"sweep": name, "state": sweep.state, "taken": sweep.taken}
    typer.echo(dumps(state) if as_json else text)
