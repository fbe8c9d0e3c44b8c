"""A sweep's study and recorder, fed by hand."""

from __future__ import annotations

from hft_ray.config import ConfigError
from hft_ray.config.load import validate
from hft_ray.orchestration.folder import SweepFolder
from hft_ray.orchestration.recorder import Recorder
from hft_ray.search import Study
from hft_ray.tracking import read_sweep, tracking_uri

BASE = {"task/score": 0.0, "general/score": 1.0, "forgetting/mean": 0.0, "stderr/task/score": 0.0}
WORST = {"task/score": 0.0, "forgetting/mean": 1.0}
RATIO = {"selection.ratio": {"low": 0.1, "high": 1.0}}


def make_config(file=None, **search):
    """Return a FILE; ``file`` holds other sections than ``search``."""
    search = {"space": RATIO, "trials": 9, **search}
    sections = {"name": "s", "model": "m", "data": {"train": "t.jsonl"}, **(file or {})}
    return validate({**sections, "search": search}, "test.yaml")


class Sweep:
    """A driver's study and recorder, fed by hand."""

    def __init__(self, root, file=None, tags=None, base=BASE, worst=WORST, **search):
        config = make_config(file, **search)
        self.root, self.config = root, config
        folder = SweepFolder(root, config.name)
        folder.claim(config)
        self.study = Study(config, folder.study)
        self.recorder = Recorder(config, folder, tags or {})
        ended = [known for known in self.study.trials() if known.state != "running"]
        self.recorder.open(base, worst, ended)
        self.finished = len(ended)

    def start(self):
        known = self.study.next_trial()
        self.take("submitted", known.trial, settings=known.params)
        return known.trial

    def take(self, kind, trial, **details):
        configuration = self.study.configuration(trial)
        told = {"event": kind, "trial": trial, "configuration": configuration, "time": 0.0}
        self.recorder.take({**told, **details})

    def end(self, trial, state="complete", score=0.5, lost=0.25, step=8, values=None, **more):
        if values is None:
            values = {"task/score": score, "forgetting/mean": lost, "stderr/task/score": 0.01}
        self.take("report", trial, step=step, metrics={**values, "train/loss": 1.0}, scored=True)
        end = {"state": state, "step": step, "values": values, **more}
        self.take("finished", trial, **(end | self.study.tell(trial, end)))
        self.finished += 1
        self.recorder.log_front(self.recorder.front(), self.finished)

    def close(self, state):
        """Close the recorder when all is written, for which a loaded machine needs long."""
        self.recorder._tracker.flush(timeout=300)
        self.recorder.close(state)

    @property
    def uri(self):
        return tracking_uri(self.config.tracking.uri, self.root)

    def record(self):
        return read_sweep(self.uri, "hft-ray", self.config.name)

    def states(self):
        """Return the states of the trials that tracking has; it may have nothing yet."""
        try:
            return states(self.record())
        except ConfigError:
            return {}


def states(record):
    return {trial.trial: trial.state for trial in record.trials}
