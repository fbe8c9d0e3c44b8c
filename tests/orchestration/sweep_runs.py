"""What a sweep has left in MLflow, and the command line in this process."""

from __future__ import annotations

import sys
from collections import Counter

import pytest

from hft_ray.cli import main
from hft_ray.tracking import tracking_uri
from hft_ray.tracking.environment import open_client


class Runs:
    """A sweep's runs in MLflow."""

    def __init__(self, root, sweep, uri=None):
        self.client = open_client(tracking_uri(uri, root))
        experiment = self.client.get_experiment_by_name("hft-ray")
        runs = self.client.search_runs([experiment.experiment_id])
        runs = [run for run in runs if run.data.tags["hft_ray.sweep"] == sweep]
        kinds = Counter(run.data.tags["hft_ray.kind"] for run in runs)
        assert kinds.pop("sweep") == 1
        self.kinds = set(kinds)
        self.parent = next(run for run in runs if run.data.tags["hft_ray.kind"] == "sweep")
        children = [run for run in runs if run.data.tags["hft_ray.kind"] == "trial"]
        self.trials = {run.data.tags["hft_ray.trial"]: run for run in children}
        # One child per trial, however often it was started.
        assert len(self.trials) == len(children)
        below = [run for run in runs if run.data.tags["hft_ray.kind"] == "variant"]
        self.variants = {
            (run.data.tags["hft_ray.trial"], run.data.tags["hft_ray.variant"]): run for run in below
        }
        assert len(self.variants) == len(below)

    def states(self):
        return {name: run.data.tags["hft_ray.state"] for name, run in sorted(self.trials.items())}

    def statuses(self):
        return {name: run.info.status for name, run in sorted(self.trials.items())}

    def artifacts(self, run, folder=""):
        found = []
        for each in self.client.list_artifacts(run.info.run_id, folder):
            found += self.artifacts(run, each.path) if each.is_dir else [each.path]
        return sorted(found)

    def steps(self, run, metric):
        history = self.client.get_metric_history(run.info.run_id, metric)
        return [each.step for each in history]


def command(monkeypatch, capsys, root, *arguments):
    """Run ``hft-ray`` in this process; return exit code, output and error output."""
    monkeypatch.setenv("HFT_RAY_HOME", str(root))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(sys, "argv", ["hft-ray", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    out, err = capsys.readouterr()
    return ended.value.code or 0, out, err
