"""A sweep's study as Optuna itself reads it from its file, and as its samplers see it."""

from __future__ import annotations

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from hft_ray.search import arm_search


def stored(folder):
    """Return the study in ``search.jsonl`` of a folder."""
    storage = JournalStorage(JournalFileBackend(str(folder / "search.jsonl")))
    return optuna.load_study(study_name="s", storage=storage)


def record_views(monkeypatch):
    """Let samplers record the trials that they see; return trial's number -> trials seen."""
    views = {}

    class Recorder(optuna.samplers.RandomSampler):
        def before_trial(self, study, trial):
            views[trial.number] = study.get_trials(deepcopy=False)

    monkeypatch.setattr(arm_search, "make_sampler", lambda *_: Recorder(seed=0))
    return views
