"""The result of a trial, as the study keeps it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hft_ray.search.trial_snapshot import finite

TRAINED = "trained"
"""Attribute of a trial that has made its last step and not ended: ``step`` and ``values``."""
_KEPT = ("state", "step", "reason", "fault", "seconds")


def result_of(
    outcome: Mapping[str, Any], trained: Mapping[str, Any] | None, objectives: Sequence[str]
) -> dict[str, Any]:
    """Return what the study keeps of an outcome.

    A trial that has made its last step is complete with the scores of that step, whatever its
    outcome: variants alone are missing. A complete trial without a finite value for every objective
    is failed: it cannot be compared.

    Args:
        outcome: See :meth:`Study.tell`.
        trained: The attribute TRAINED of the trial, if it is set.
        objectives: Metrics that a complete trial needs.
    """
    outcome = _completed(outcome, trained)
    result = {key: outcome[key] for key in _KEPT if key in outcome}
    result["values"] = finite(outcome.get("values") or {})
    lacking = [name for name in objectives if name not in result["values"]]
    if result["state"] == "complete" and lacking:
        reason = f"no finite value for {', '.join(lacking)}"
        result |= {"state": "failed", "reason": reason, "fault": "not_finite"}
    if variants := outcome.get("variants"):
        result["variants"] = [{**each, "values": finite(each["values"])} for each in variants]
    return result


def _completed(outcome: Mapping[str, Any], trained: Mapping[str, Any] | None) -> Mapping[str, Any]:
    scored = outcome if outcome.get("last") else trained
    if outcome["state"] == "complete" or scored is None:
        return outcome
    return {
        **outcome,
        "state": "complete",
        "step": scored["step"],
        "values": scored["values"],
        "reason": f"not all variants were scored: {outcome.get('reason') or 'it was stopped'}",
        "fault": None,
    }
