"""The live view of a sweep: a panel on a terminal, plain lines elsewhere."""

from __future__ import annotations

from types import TracebackType
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from hft_ray.orchestration.sweep_lines import clock, describe
from hft_ray.orchestration.sweep_view import SweepView

LASTING = ("finished", "retried", "background")
"""The events that are printed above the panel too."""
STATES = ("complete", "pruned", "stopped", "failed", "running", "queued", "planned")
"""The states of trials in the order in which they are shown."""


class SweepProgress:
    """Shows a sweep while it runs; use as a context manager and call with each event."""

    def __init__(self, console: Console, name: str) -> None:
        self._console, self._name = console, name
        self._view: SweepView | None = None
        # Other output belongs in the log file, not above the panel.
        live = Live(
            get_renderable=self._render,
            console=console,
            refresh_per_second=2,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._live = live if console.is_terminal else None

    def __enter__(self) -> SweepProgress:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live:
            self._live.stop()

    def __call__(self, event: dict[str, Any], view: SweepView) -> None:
        """Take an event and the view after it."""
        self._view = view
        line = describe(event, view)
        if line is not None and (self._live is None or event["event"] in LASTING):
            self.say(line)

    def say(self, line: str) -> None:
        """Print a line, above the panel if there is one."""
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)

    def _render(self) -> RenderableType:
        if self._view is None:
            return Text(f"{self._name}: starting", style="dim")
        return panel(self._view)


def panel(view: SweepView) -> RenderableType:
    """Return the live panel: states, running trials, front so far, times."""
    counts = "  ".join(
        f"{view.counts()[state]} {state}" for state in STATES if view.counts()[state]
    )
    head = Text.assemble(
        (view.name, "bold"),
        f"  {view.phase}\n",
        counts,
        f"\nelapsed {clock(view.elapsed)}  eta {clock(view.eta)}",
    )
    front = view.front
    if front is not None and (size := len(front.averaged.members)):
        points = f"{size} point{'s' if size != 1 else ''}"
        head.append(f"  front {points}, hypervolume {front.hypervolume:.4f}")
    if not view.running:
        return head
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("trial", "group", "step", "loss"):
        table.add_column(column, justify="left" if column == "trial" else "right")
    for trial, running in sorted(view.running.items()):
        loss = "-" if running.loss is None else f"{running.loss:.4f}"
        table.add_row(trial, str(running.group), str(running.step), loss)
    return Group(head, table)
