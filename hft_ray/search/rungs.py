"""Asynchronous successive halving over several objectives: which trials go on.

The rule is MO-ASHA (Schmucker et al., "Multi-objective asynchronous successive halving",
arXiv 2106.12639) in its stopping variant, written from the paper: rungs lie at
``min_steps * eta^k`` steps, a trial is compared once on each with the trials that reached it
before, and goes on when it is among the best ``1 / eta``. It knows neither Ray nor Optuna.

Deviations from the paper: any mix of directions; the first trials on a rung go on, since they
show how stable its ranks are; non-dominated trials go on unless they are epsilon-dominated; of the
others only those are stopped that are clearly behind: another trial leads in every objective by
more ranks than usually change up to the next rung; exempt trials count for others and are never
stopped; values that are not finite are ignored.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from hft_ray.config import Config
from hft_ray.config.rules.scheduling import compared_objectives
from hft_ray.search.rank_stability import LEAST, RankStability
from hft_ray.search.rung import Floats, Rung

Direction = Literal["max", "min"]
BEYOND = 1e300
"""Costs of a trial that fails the constraints begin here."""


@dataclass(frozen=True)
class Verdict:
    """One decision.

    Attributes:
        trial: Id of the trial.
        rung: Steps of the rung.
        step: The trial's step when it reached the rung.
        values: Its objectives at that step, those included that are not compared.
        stop: Whether the trial stops here.
        rank: Its place on the rung, 1 for the best.
        size: Trials on the rung so far.
        front: Number of its front, 0 for the non-dominated.
        front_size: Trials on that front so far.
        why: The rule that decided.
        violation: By how much it failed the constraints at that step; 0 if it did not.
    """

    trial: str
    rung: int
    step: int
    values: dict[str, float]
    stop: bool
    rank: int
    size: int
    front: int
    front_size: int
    why: str
    violation: float = 0.0

    def __str__(self) -> str:
        end = "stops" if self.stop else "goes on"
        if self.violation > 0:
            end = f"outside the constraints, {end}"
        return (
            f"{self.trial} {end} at rung {self.rung}: rank {self.rank} of {self.size}, "
            f"front {self.front} of {self.front_size} ({self.why})"
        )


@dataclass(frozen=True)
class Halving:
    """The rules of the rungs.

    Attributes:
        min_steps: Steps of the first rung.
        eta: One in so many goes on from each rung, and the next rung is so many times as far.
        every: Steps between two reports; rungs are moved up to a multiple of it.
        epsilon: See :class:`Rung`.
        seed: See :class:`Rung`.
    """

    min_steps: int
    eta: int
    every: int
    epsilon: float = 0.0
    seed: int = 0

    def rung_at(self, step: int) -> int | None:
        """Return the last rung at or before ``step``, None before the first."""
        found, wanted = None, self.min_steps
        while (rung := math.ceil(wanted / self.every) * self.every) <= step:
            found, wanted = rung, wanted * self.eta
        return found


class Rungs:
    """All rungs of a sweep.

    Args:
        rules: Where the rungs are and who passes.
        objectives: Metric -> direction; those that cost no training are left out.

    Raises:
        ValueError: No objective is left to compare.
    """

    def __init__(self, rules: Halving, objectives: Mapping[str, Direction]) -> None:
        self.rules = rules
        compared = compared_objectives(objectives)
        if not compared:
            raise ValueError(f"no objective depends on training: {', '.join(objectives)}")
        self._objectives = list(objectives)
        self._signs = {name: -1.0 if objectives[name] == "max" else 1.0 for name in compared}
        self._rungs: dict[int, Rung] = {}
        self._stability: dict[int, RankStability] = defaultdict(lambda: RankStability(rules.seed))
        self._verdicts: dict[tuple[str, int], Verdict] = {}
        self._rungs_of: dict[str, list[int]] = {}

    def report(
        self,
        trial: str,
        step: int,
        values: Mapping[str, float],
        *,
        last: bool = False,
        exempt: bool = False,
        violation: float = 0.0,
    ) -> Verdict | None:
        """Take a trial's report and decide, if it brings the trial to a rung.

        Args:
            trial: Its id.
            step: Its step.
            values: Metric -> value.
            last: It has no step left: it is compared for others' sake.
            exempt: It is never stopped.
            violation: Above 0 if it violates the constraints: every trial that does not dominates
                it, and of two that do the one with the lesser violation dominates.

        Returns:
            The decision; the earlier one if it was on this rung before (a trial that was started
            again comes by once more); None between rungs, and without a finite value for every
            objective, which tells nothing about this trial or any other.
        """
        rung = self.rules.rung_at(step)
        if rung is None:
            return None
        if (known := self._verdicts.get((trial, rung))) is not None:
            return known
        own = {name: float(values[name]) for name in self._objectives if name in values}
        own = {name: value for name, value in own.items() if math.isfinite(value)}
        if not own.keys() >= self._signs.keys():
            return None
        standing = self._rung(rung).add(trial, self._costs(own, violation))
        passing = math.ceil(standing.size / self.rules.eta)
        if last or exempt:
            stop, why = False, "its last report" if last else "runs in any case"
        elif standing.size <= LEAST:
            stop, why = False, "among the first"
        elif standing.rank <= passing:
            stop, why = False, f"among the best {passing}"
        elif standing.front == 0 and not standing.epsilon_dominated:
            stop, why = False, "on the front"
        elif standing.front > 0 and not self._clearly_behind(rung):
            stop, why = False, "not clearly behind"
        else:
            stop, why = True, f"not among the best {passing}"
        verdict = Verdict(
            trial=trial,
            rung=rung,
            step=step,
            values=own,
            stop=stop,
            rank=standing.rank,
            size=standing.size,
            front=standing.front,
            front_size=standing.front_size,
            why=why,
            violation=violation,
        )
        self._keep(verdict)
        return verdict

    def _clearly_behind(self, rung: int) -> bool:
        """Return whether the newest trial is so far behind that it will be on the next rung too."""
        here = self._rung(rung)
        return here.newest_is_behind(self._stability[rung].margins(here.order))

    def _keep(self, verdict: Verdict) -> None:
        """Remember a decision, and how the trial moved since the last one; lower rungs first."""
        earlier = self._rungs_of.setdefault(verdict.trial, [])
        if earlier:
            before = self._verdicts[verdict.trial, earlier[-1]]
            costs = (self._costs(each.values, each.violation) for each in (before, verdict))
            self._stability[earlier[-1]].add(verdict.trial, *costs)
        earlier.append(verdict.rung)
        self._verdicts[verdict.trial, verdict.rung] = verdict

    @property
    def verdicts(self) -> list[Verdict]:
        """Every decision, in the order in which they fell."""
        return list(self._verdicts.values())

    def of(self, trial: str) -> list[Verdict]:
        """Return the decisions about a trial, the lowest rung first."""
        return [self._verdicts[trial, rung] for rung in self._rungs_of.get(trial, [])]

    def stopping(self, trial: str) -> Verdict | None:
        """Return the decision that stopped a trial, None if it goes on."""
        return next((verdict for verdict in self.of(trial) if verdict.stop), None)

    def to_json(self) -> list[dict[str, Any]]:
        """Return the state: every decision with the values that it was made on."""
        return [asdict(verdict) for verdict in self.verdicts]

    def restore(self, state: Iterable[Mapping[str, Any]]) -> None:
        """Take in what :meth:`to_json` returned, in any order; later decisions are the same.

        A decision depends on which trials are on the rung, not on the order in which they came.
        """
        assert not self._verdicts
        verdicts = sorted((Verdict(**each) for each in state), key=lambda each: each.rung)
        for verdict in verdicts:
            self._keep(verdict)
        for rung in sorted({verdict.rung for verdict in verdicts}):
            here = [verdict for verdict in verdicts if verdict.rung == rung]
            costs = np.array([self._costs(each.values, each.violation) for each in here])
            self._rung(rung).load([verdict.trial for verdict in here], costs)

    def _rung(self, rung: int) -> Rung:
        if rung not in self._rungs:
            self._rungs[rung] = Rung(len(self._signs), self.rules.epsilon, self.rules.seed)
        return self._rungs[rung]

    def _costs(self, values: Mapping[str, float], violation: float) -> Floats:
        if violation > 0:
            # Worse than any value there is, and in the order of the violations.
            return np.full(len(self._signs), BEYOND * (1 + violation / (1 + violation)))
        return np.array([sign * values[name] for name, sign in self._signs.items()])


def make_rungs(config: Config) -> Rungs | None:
    """Return the rungs that ``search.scheduler`` asks for; None when no trial is to be stopped."""
    assert config.search is not None
    scheduler, every = config.search.scheduler, config.evaluation.every
    match scheduler.kind:
        case "none":
            return None
        case "asha":
            if every is None:
                return None
            rules = Halving(
                min_steps=scheduler.min_steps or every,
                eta=scheduler.eta,
                every=every,
                epsilon=scheduler.epsilon,
                seed=config.search.seed,
            )
            return Rungs(rules, config.search.objectives)
