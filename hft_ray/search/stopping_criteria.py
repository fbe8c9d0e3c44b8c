"""The criteria that end a sweep early: its budget is spent, or its front no longer grows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from hft_ray.config import Cluster, Search
from hft_ray.device_cost import cost_of_workers, worker_seconds
from hft_ray.pareto.dominance import minimised
from hft_ray.pareto.hypervolume import hypervolume
from hft_ray.search.trial_snapshot import TrialSnapshot

Violations = Callable[[Mapping[str, float]], Mapping[str, float]]
HOUR = 3600.0


class StoppingCriteria:
    """Compares what a sweep has spent and found with its budget and its plateau.

    Args:
        search: Section ``search`` of FILE.
        cluster: Section ``cluster`` of FILE.
        seconds: Run time of earlier commands.
        violations: Metric -> value, to constraint -> how far it is violated.

    Attributes:
        seconds: Run time of the sweep, over all commands.
        reference: Objective -> worst value that counts for the hypervolume; without it there is no
            plateau.
        spent: Why no trial starts any more, None if trials start.
        plateau: Why no new configuration starts any more, None if configurations start.
    """

    def __init__(
        self,
        search: Search,
        cluster: Cluster,
        seconds: float,
        violations: Violations = lambda x: {},
    ) -> None:
        self._search, self._cluster, self._before = search, cluster, seconds
        self._violations = violations
        self.seconds = seconds
        self.reference: dict[str, float] = {}
        self._seen = -1
        self.spent: str | None = None
        self.plateau: str | None = None

    def set_elapsed(self, seconds: float) -> None:
        """Set the time since this command started."""
        self.seconds = self._before + seconds

    @property
    def reason(self) -> str | None:
        """Why the sweep ends early, None if it does not."""
        return self.spent or self.plateau

    def update(self, ended: Sequence[TrialSnapshot]) -> None:
        """Apply the criteria to the trials that have ended, in the order in which they did."""
        if (budget := self._search.budget) is not None and self.spent is None:
            seconds = sum(worker_seconds(self._cluster, trial.result) for trial in ended)
            devices = cost_of_workers(self._cluster, seconds).device_hours
            for spent, given, what in (
                (devices, budget.device_hours, "device hours"),
                (self.seconds / HOUR, budget.hours, "hours"),
            ):
                if given is not None and spent >= given:
                    self.spent = f"{spent:.3g} of {given:g} {what} are spent"
        if self._search.plateau is not None and self.plateau is None and len(ended) > self._seen:
            self._seen = len(ended)
            self.plateau = self._stagnation(ended)

    def _stagnation(self, ended: Sequence[TrialSnapshot]) -> str | None:
        """Return the reason if the last configurations have added too little, else None.

        The last k configurations add the hypervolume of all minus that of all but them.
        """
        assert self._search.plateau is not None
        last, share = self._search.plateau.trials, self._search.plateau.share
        # Failed trials say nothing about the front.
        first = [trial for trial in ended if trial.first and trial.state != "failed"]
        if len(first) <= last or not self.reference:
            return None
        now, before = self._volume(first), self._volume(first[:-last])
        if now <= 0 or (gain := (now - before) / now) >= share:
            return None
        return f"the last {last} configurations added {gain:.2%} of the hypervolume"

    def _volume(self, trials: Sequence[TrialSnapshot]) -> float:
        """Return the hypervolume of what the trials yield, variants included, as on the front."""
        objectives = self._search.objectives
        scores = [
            each["values"]
            for trial in trials
            if trial.state == "complete"
            for each in (trial.result, *trial.result.get("variants", ()))
            if objectives.keys() <= each["values"].keys()
        ]
        kept = [each for each in scores if all(x <= 0 for x in self._violations(each).values())]
        costs = minimised(kept, objectives)
        return hypervolume(costs, minimised([self.reference], objectives)[0])
