"""Optuna as a searcher of Ray Tune, right for several objectives.

Tune's own OptunaSearch leaves a trial RUNNING for ever when a metric is NaN or missing and tells a
stopped trial as complete. Here every trial ends in the Optuna state that it deserves.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from ray.tune.search import Searcher

from hft_ray.search.study import Study


class StudySearcher(Searcher):
    """Hands the study's trials to Tune and tells the study how they end.

    Each Tune config is ``{"sweep": name, "trial": id, "params": JSON text}``: text, since Tune
    would take dotted keys apart.

    Args:
        study: The study.
        on_end: Called with a trial and how it ended, after the study has it.
    """

    def __init__(
        self, study: Study, on_end: Callable[[str, dict[str, Any]], None] = lambda trial, end: None
    ) -> None:
        search = study.search
        super().__init__(metric=study.objectives, mode=list(search.objectives.values()))
        self._study, self._on_end = study, on_end
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
        """Return the config of the next trial; None if there may be one later, or FINISHED."""
        over = self._closed or self._draining
        known = None if over else self._study.next_trial()
        if known is None:
            waits = self._running and self._study.left() > len(self._running)
            return None if waits and not over else Searcher.FINISHED
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
        text = (result or {}).get("outcome")
        if text is None:
            outcome = {"state": "failed", "reason": "the trial ended without a result"}
        else:
            outcome = json.loads(text)
        # The study decides what a trial without a finite value for every objective is.
        self._on_end(trial, outcome | self._study.tell(trial, outcome))

    def __getstate__(self) -> dict[str, Any]:
        """Leave the study, which is on disk, out of Tune's snapshots, and the driver with it."""
        return {key: x for key, x in vars(self).items() if key not in ("_study", "_on_end")}

    def save(self, checkpoint_path: str) -> None:
        """Save nothing: the study is on disk, and a restarted driver reads it."""

    def restore(self, checkpoint_path: str) -> None:
        """Restore nothing, see :meth:`save`."""
