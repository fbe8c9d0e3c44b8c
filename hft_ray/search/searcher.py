"""Optuna as a searcher of Ray Tune, right for several objectives.

Tune's own OptunaSearch leaves a trial RUNNING for ever when a metric is NaN or missing and tells a
stopped trial as complete. Here every trial ends in the Optuna state that it deserves.
"""

from __future__ import annotations

import json
from typing import Any

from ray.tune.search import Searcher

from hft_ray.search.study import Study


class StudySearcher(Searcher):
    """Hands the study's trials to Tune and tells the study how they end.

    Each Tune config is ``{"sweep": name, "trial": id, "params": JSON text}``: text, since Tune
    would take dotted keys apart.
    """

    def __init__(self, study: Study) -> None:
        search = study.search
        super().__init__(metric=study.objectives, mode=list(search.objectives.values()))
        self._study = study
        self._running: dict[str, str] = {}
        self._closed = self._draining = False

    def drain(self) -> None:
        """Hand out no more; what is under way still tells the study how it ends."""
        self._draining = True

    def close(self) -> None:
        """Hand out no more, and tell the study nothing more.

        Trials that a sweep's early end cuts off have not failed: the study keeps them as running,
        and hands them out again when the sweep goes on.
        """
        self._closed = True

    def suggest(self, trial_id: str) -> Any:
        """Return the config of the next trial, or FINISHED."""
        known = None if self._closed or self._draining else self._study.next_trial()
        if known is None:
            return Searcher.FINISHED
        self._running[trial_id] = known.trial
        return {
            "sweep": self._study.config.name,
            "trial": known.trial,
            "params": json.dumps(known.params),
        }

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Tell the study; ``outcome`` in the trial's last report (JSON text) says how it ended."""
        trial = self._running.pop(trial_id, None)
        if trial is None or self._closed:
            return
        told = (result or {}).get("outcome")
        if told is None:
            outcome = {"state": "failed", "reason": "the trial ended without a result"}
        else:
            outcome = json.loads(told)
        self._study.tell(trial, outcome)

    def __getstate__(self) -> dict[str, Any]:
        """Leave the study out of Tune's snapshots: it is on disk, and lives there."""
        return {key: value for key, value in vars(self).items() if key != "_study"}

    def save(self, checkpoint_path: str) -> None:
        """Save nothing: the study is on disk, and a restarted driver reads it."""

    def restore(self, checkpoint_path: str) -> None:
        """Restore nothing, see :meth:`save`."""
