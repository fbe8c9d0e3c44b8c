"""What can go wrong with a trial, and what follows: tried again or not, and what is said.

A rule says whether another attempt can end otherwise. A loss that is not finite, a frozen parameter
that changed, a batch that does not fit and data that cannot be read would be the same the next
time; a process or a node that dies may have had nothing to do with the trial.
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
    """What follows from a fault.

    Attributes:
        retry: Whether the trial is started again, on fresh processes.
        counted: Whether an attempt that ended so counts among ``cluster.retries``.
        advice: What the user can do, put behind the error's own words.
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
    # The rank that is gone says why itself, or its group's next life shows that it died.
    "peer_lost": Rule(retry=True),
    "worker_crash": Rule(retry=True),
    # Taken away or broken: the trial is not to blame, however often.
    "node_lost": Rule(retry=True, counted=False),
    "error": Rule(),
}
MOST_SPARED = 100
"""Attempts of one trial that do not count, at most: something else is wrong by then."""


def explained(reason: str, fault: Fault) -> str:
    """Return an error's words with what the user can do."""
    advice = RULES[fault].advice
    return f"{reason}; {advice}" if advice else reason
