"""Kinds of faults of a trial, and whether each is retried.

A fault is retried if another attempt can end differently. A loss that is not finite, a frozen
parameter that changed, a batch that does not fit and unreadable data would be the same next time;
a process or a node that dies may have had nothing to do with the trial.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Fault = Literal[
    "not_finite",
    "frozen_changed",
    "out_of_memory",
    "data",
    "storage_full",
    "storage",
    "peer_lost",
    "worker_crash",
    "node_lost",
    "error",
]


@dataclass(frozen=True)
class Rule:
    """How a fault is handled.

    Attributes:
        retry: Whether the trial is started again, on fresh processes.
        counted: Whether an attempt that ended so counts among ``cluster.retries``.
        advice: What the user can do, appended to the error's message.
    """

    retry: bool = False
    counted: bool = True
    advice: str = ""


RULES: dict[Fault, Rule] = {
    "not_finite": Rule(),
    "frozen_changed": Rule(
        advice="this is a fault of hft-ray or of the model's own code, and its scores would not "
        "be those of what was selected; please report it"
    ),
    "out_of_memory": Rule(
        advice="smaller training.batch_size, training.optimizer_states bf16, more "
        "cluster.workers with a higher training.zero_stage, or less memory elsewhere would make "
        "room"
    ),
    "data": Rule(),
    "storage_full": Rule(
        advice="make room under the storage root; search.disk_bytes bounds what is kept"
    ),
    "storage": Rule(retry=True, advice="the storage did not answer"),
    # The rank that died reports why; if it could not, the next incarnation of the group shows it.
    "peer_lost": Rule(retry=True),
    "worker_crash": Rule(retry=True),
    # The node was taken away or broke: this says nothing about the trial.
    "node_lost": Rule(retry=True, counted=False),
    "error": Rule(),
}
MOST_UNCOUNTED = 100
"""Maximum number of uncounted attempts of one trial: something else is wrong by then."""


def explained(reason: str, fault: Fault) -> str:
    """Return an error's message with the advice of its fault."""
    advice = RULES[fault].advice
    return f"{reason}; {advice}" if advice else reason
