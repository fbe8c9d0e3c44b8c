"""``hft-ray status``."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from hft_ray.cli.options import Experiment, Json, Storage, SweepName, Uri, finite
from hft_ray.strict_json import dumps

if TYPE_CHECKING:
    from hft_ray.orchestration.sweep_status import SweepStatus


def status(
    name: SweepName,
    watch: Annotated[
        bool, typer.Option("--watch", help="Update the output until the sweep has ended.")
    ] = False,
    seconds: Annotated[
        float,
        typer.Option(
            "--every",
            min=0.5,
            callback=finite,
            metavar="SECONDS",
            help="Interval of --watch.",
        ),
    ] = 5.0,
    uri: Uri = None,
    experiment: Experiment = None,
    storage: Storage = None,
    as_json: Json = False,
) -> None:
    """Show the progress of a sweep: trials by state, worker groups, front, time elapsed and left.

    Of each group: what it does, for how long, on which nodes, and what its first worker uses.

    Reads MLflow alone, so it runs on any machine.

    Example: hft-ray status demo --watch --tracking-uri http://mlflow.example.org:5000
    """
    from hft_ray.orchestration.sweep_place import tracked_at
    from hft_ray.orchestration.sweep_status import sweep_status
    from hft_ray.storage_root import storage_root

    place = tracked_at(storage_root(storage), name, uri, experiment)
    looks = _looks(lambda: sweep_status(*place, name), seconds if watch else None)
    if as_json:
        for now in looks:
            typer.echo(dumps(now.to_json()))
        return
    console = Console(highlight=False)
    first = panel(next(looks))
    if not watch:
        console.print(first)
        return
    with Live(first, console=console, auto_refresh=False) as live:
        for now in looks:
            live.update(panel(now), refresh=True)


def _looks(look: Callable[[], SweepStatus], pause: float | None) -> Iterator[SweepStatus]:
    """Yield the state of a sweep; with a ``pause`` again and again until the sweep has ended."""
    yield (now := look())
    while pause is not None and now.state == "running":
        time.sleep(pause)
        yield (now := look())


def panel(status: SweepStatus) -> RenderableType:
    """Return the state of a sweep for the terminal."""
    from hft_ray.cli.sweep_progress import STATES
    from hft_ray.cli.tables import front_table
    from hft_ray.orchestration.sweep_lines import clock
    from hft_ray.orchestration.sweep_status import SILENT_SECONDS

    counts = (f"{status.states[each]} {each}" for each in STATES if each in status.states)
    head = Text.assemble((status.name, "bold"), f"  {status.state}\n", "  ".join(counts))
    eta = f"  eta {clock(status.eta)}" if status.state == "running" else ""
    head.append(f"\nelapsed {clock(status.elapsed)}{eta}")
    if status.cost is not None:
        head.append(f"\ntrials took {status.cost}")
    shown = {each.trial for each in status.groups}
    for trial, at in sorted(status.running.items()):
        if trial not in shown:
            loss = "" if at.loss is None else f", loss {at.loss:.4f}"
            head.append(f"\n{trial} at step {at.step}{loss}")
    if status.silence is not None and status.silence > SILENT_SECONDS:
        quiet = f"\nno sign of its driver for {clock(status.silence)}: it may have been killed; "
        head.append(quiet + "hft-ray tune continues the sweep", style="yellow")
    parts: list[RenderableType] = [head]
    if status.groups:
        parts.append(_groups(status))
    if status.front is not None:
        parts += [f"hypervolume {status.front.hypervolume:.4f}\n", front_table(status.front)]
    return Group(*parts)


def _groups(status: SweepStatus) -> RenderableType:
    """Return a line for each worker group: what it does, since when, where, and what it uses."""
    from hft_ray.cli.tables import plain_table
    from hft_ray.orchestration.sweep_lines import bytes_text, clock
    from hft_ray.orchestration.sweep_status import TrialProgress

    rows = []
    for group in status.groups:
        at = status.running.get(group.trial or "", TrialProgress())
        memory = at.host_memory_bytes if at.device_memory_bytes is None else at.device_memory_bytes
        used = "" if at.cores_used is None else f"{at.cores_used:.1f} cores"
        rows.append(
            {
                "group": str(group.group),
                "trial": group.trial or "",
                "phase": group.phase,
                "since": clock(max(0.0, time.time() - group.since)),
                "step": str(at.step) if group.trial else "",
                "loss": "" if at.loss is None else f"{at.loss:.4f}",
                "memory": "" if memory is None else bytes_text(memory),
                "used": used if at.device_used is None else f"{at.device_used:.0%}",
                # Their addresses would not fit; --json has them.
                "nodes": ", ".join(node.partition(" ")[0] for node in group.nodes),
            }
        )
    return plain_table("", rows)
