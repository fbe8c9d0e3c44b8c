"""The rungs as a scheduler of Ray Tune: it decides, the trial's workers stop themselves.

No scheduler of Tune takes several objectives, and one that stops a trial ends it while its workers
are inside a step. This one lets every trial run on and passes its decision to ``stop``; the workers
get the answer at their next report, all ranks leave at the same step, and the trial ends with an
outcome as any other does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from hft_ray.search.study import Study


class StudyScheduler(FIFOScheduler):
    """Asks the study about each scored report.

    Args:
        study: Knows the rungs, and keeps every decision.
        stop: Asks a trial's workers to stop.
    """

    def __init__(self, study: Study, stop: Callable[[str], None]) -> None:
        super().__init__()
        self._study, self._stop = study, stop

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Take a report of a thin trial; a result with an outcome is its end, not a report."""
        if result.get("outcome") is None:
            name = trial.config["trial"]
            step, last = result["hft_step"], result["hft_last"]
            verdict = self._study.on_report(name, step, result, last=last)
            if verdict is not None and verdict.stop:
                self._stop(name)
        return str(TrialScheduler.CONTINUE)

    def __getstate__(self) -> dict[str, Any]:
        """Leave out of Tune's snapshots what lives on disk and in the driver."""
        return {key: each for key, each in vars(self).items() if key not in ("_study", "_stop")}
