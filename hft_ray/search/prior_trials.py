"""Warm start: results of earlier sweeps, with which a sweep begins."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial, TrialState, create_trial

from hft_ray.search.search_space import Space

MAX_SHARE = 0.25
"""Share of a sweep's trials that earlier fronts may decide."""
RANDOM_EVERY = 5
"""One in this many trials of a warm-started sweep is drawn at random."""


@dataclass(frozen=True)
class PriorTrial:
    """A trial of another sweep.

    Attributes:
        source: Name of the sweep and trial.
        params: Dotted key -> value, of this sweep's searched settings.
        values: A value of each objective; empty when those of that sweep mean something else.
        violations: Constraint -> by how much it is violated, as in :meth:`Study.violations`.
    """

    source: str
    params: dict[str, Any]
    values: list[float] = field(default_factory=list)
    violations: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class WarmStart:
    """Results of earlier sweeps.

    Attributes:
        known: Trials that the sampler sees as trials of this sweep.
        points: Settings to begin with; their values mean something else here.
    """

    known: tuple[PriorTrial, ...] = ()
    points: tuple[PriorTrial, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.known or self.points)

    def to_json(self) -> str:
        """Return it as text."""
        return json.dumps(asdict(self), indent=1) + "\n"

    @classmethod
    def read(cls, path: Path) -> WarmStart:
        """Return the content of a file; an empty one if it does not exist."""
        return cls.from_json(path.read_text(encoding="utf-8")) if path.is_file() else cls()

    @classmethod
    def from_json(cls, text: str) -> WarmStart:
        """Return what :meth:`to_json` wrote."""
        content = json.loads(text)
        return cls(*(tuple(PriorTrial(**each) for each in content[k]) for k in ("known", "points")))


def spread(points: Sequence[PriorTrial], trials: int) -> tuple[PriorTrial, ...]:
    """Return as many of ``points``, evenly spread over them, as a sweep may begin with."""
    most = min(len(points), max(1, int(MAX_SHARE * trials)))
    return tuple(points[(2 * place + 1) * len(points) // (2 * most)] for place in range(most))


def as_trials(known: Sequence[PriorTrial], space: Space) -> list[FrozenTrial]:
    """Return earlier trials that lie in the space, for a sampler; their numbers are below 0."""
    found = []
    for place, each in enumerate(known):
        if space.fits(each.params):
            trial = create_trial(
                state=TrialState.COMPLETE,
                values=each.values,
                params=space.parameters(each.params),
                distributions=space.distributions(each.params),
                constraints=each.violations or None,
            )
            trial.number = place - len(known)
            found.append(trial)
    return found
