"""When a sweep begins no more trials: its budget is spent, or its front no longer grows."""

from __future__ import annotations

from collections.abc import Sequence

from hft_ray.config import Search
from hft_ray.pareto.dominance import minimised
from hft_ray.pareto.hypervolume import hypervolume
from hft_ray.search.known import Known

SECONDS = 3600.0
DEVICE_SECONDS = "cost/device_seconds"


class Ending:
    """Follows what a sweep has spent and found.

    Args:
        search: Section ``search`` of FILE.
        workers: Devices of a trial.
        seconds: Time that earlier commands have taken.
    """

    def __init__(self, search: Search, workers: int, seconds: float) -> None:
        self._search, self._workers, self._before = search, workers, seconds
        self.seconds = seconds
        self.reference: dict[str, float] = {}
        self._looked = -1
        self.spent: str | None = None
        """Why nothing begins any more, if so."""
        self.plateau: str | None = None
        """Why no new configuration begins any more, if so."""

    def at(self, seconds: float) -> None:
        """Take the time since this command began."""
        self.seconds = self._before + seconds

    @property
    def reason(self) -> str | None:
        """Why the sweep ends early, if it does."""
        return self.spent or self.plateau

    def look(self, ended: Sequence[Known]) -> None:
        """Judge by the trials that have ended, in the order in which they did."""
        if (budget := self._search.budget) is not None and self.spent is None:
            devices = sum(map(self._device_seconds, ended)) / SECONDS
            for spent, given, what in (
                (devices, budget.device_hours, "device hours"),
                (self.seconds / SECONDS, budget.hours, "hours"),
            ):
                if given is not None and spent >= given:
                    self.spent = f"{spent:.3g} of {given:g} {what} are spent"
        if self._search.plateau is not None and self.plateau is None and len(ended) > self._looked:
            self._looked = len(ended)
            self.plateau = self._stagnation(ended)

    def _device_seconds(self, known: Known) -> float:
        values, seconds = known.result.get("values") or {}, known.result.get("seconds") or 0.0
        # What failed went on after its last score.
        least = seconds * self._workers if known.state == "failed" else 0.0
        return float(max(values.get(DEVICE_SECONDS, seconds * self._workers), least))

    def _stagnation(self, ended: Sequence[Known]) -> str | None:
        """Say that the last configurations have added too little, None if they have not.

        What the last k add is the hypervolume of all less that of all but those.
        """
        assert self._search.plateau is not None
        last, share = self._search.plateau.trials, self._search.plateau.share
        # What failed says nothing of the front.
        first = [known for known in ended if known.first and known.state != "failed"]
        if len(first) <= last or not self.reference:
            return None
        now, before = self._volume(first), self._volume(first[:-last])
        if now <= 0 or (gain := (now - before) / now) >= share:
            return None
        return f"the last {last} configurations added {gain:.2%} of the hypervolume"

    def _volume(self, trials: Sequence[Known]) -> float:
        objectives = self._search.objectives
        costs = minimised([each.result["values"] for each in trials if each.feasible], objectives)
        return hypervolume(costs, minimised([self.reference], objectives)[0])
