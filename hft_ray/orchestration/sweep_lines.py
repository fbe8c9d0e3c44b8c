"""A running sweep in lines of text: one for each event that is worth one."""

from __future__ import annotations

from typing import Any

from hft_ray.orchestration.sweep_view import SweepView


def clock(seconds: float | None) -> str:
    """Return seconds as ``m:ss`` or ``h:mm:ss``; a dash when unknown."""
    if seconds is None:
        return "-"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def bytes_text(size: float) -> str:
    """Return a number of bytes with its unit."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024 or unit == "GiB":
            return f"{size:.4g} {unit}"
        size /= 1024
    raise AssertionError


def describe(event: dict[str, Any], view: SweepView) -> str | None:
    """Return the line of an event, None for events without one."""
    trial = event["trial"]
    done = f"[{view.finished}/{view.planned} {clock(view.elapsed)}]"
    match event["event"]:
        case "phase":
            return f"{done} {view.phase}"
        case "started":
            again = f", attempt {event['attempt']}" if event["attempt"] > 1 else ""
            return f"{done} {trial} started on group {event['group']}{again}"
        case "retried":
            return f"{done} {trial} will be retried: {event['reason']}"
        case "finished":
            return f"{done} {trial} {_ending(event, view)}"
        case "background":
            return f"{done} {event['text']}"
    return None


def _ending(event: dict[str, Any], view: SweepView) -> str:
    values = event.get("values") or {}
    objectives = list(view.front.objectives) if view.front else []
    scores = "  ".join(f"{name} {values[name]:.3f}" for name in objectives if name in values)
    reason = event.get("reason")
    if reason and event["state"] == "complete":
        reason = f"{scores}; {reason}"
    text = reason or scores
    return f"{event['state']}: {text}" if text else event["state"]
