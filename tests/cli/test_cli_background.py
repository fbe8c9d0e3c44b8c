"""What ``hft-ray tune`` says of errors in the background, at once and at its end, and its code."""

from __future__ import annotations

import os
import sys

import pytest
import yaml

from hft_ray.cli.main import main
from hft_ray.orchestration import ready_sweep
from hft_ray.orchestration.sweep_errors import InterruptedSweepError, SweepError
from hft_ray.orchestration.sweep_view import SweepView
from hft_ray.pareto import build_front

FILE = {
    "name": "s",
    "model": "nowhere/model",
    "data": {"train": "nowhere.jsonl"},
    "search": {"space": {"selection.ratio": {"low": 0.1, "high": 0.9}}, "trials": 1},
}
OBJECTIVES = {"task/score": "max", "forgetting/mean": "min"}
UNDONE = "the mirror /m is behind"


@pytest.fixture
def tune(monkeypatch, capfd, tmp_path):
    """Return a function that runs the command with a sweep that meets errors, and so ends."""

    def run(end, meet):
        def run_sweep(config, folder, watch, interrupted, errors, source):
            view = SweepView("s", planned=1, groups=1)
            errors.show = lambda text: watch(
                {"event": "background", "trial": "", "text": text}, view
            )
            meet(errors)
            if end is not None:
                raise end
            return build_front("s", OBJECTIVES, [], {}, dict.fromkeys(OBJECTIVES, 0.0))

        monkeypatch.setattr(ready_sweep, "run_sweep", run_sweep)
        for name, stub in {
            "pinned": lambda config: config,
            "check_all": lambda *checks, source: None,
            "probe": lambda *arguments: None,
            "connect": lambda address: {"local": False},
            "ray_nodes": lambda: [{"CPU": 64}],
        }.items():
            monkeypatch.setattr(ready_sweep, name, stub)
        monkeypatch.setattr(os, "_exit", sys.exit)
        monkeypatch.setenv("HFT_RAY_HOME", str(tmp_path / "home"))
        file = tmp_path / "f.yaml"
        file.write_text(yaml.safe_dump(FILE), encoding="utf-8")
        monkeypatch.setattr(sys, "argv", ["hft-ray", "tune", str(file)])
        with pytest.raises(SystemExit) as ended:
            main()
        return (ended.value.code, *capfd.readouterr())

    return run


def recover(errors):
    for _ in range(2):
        errors.caught("mirror", ValueError("it broke"))


def fail(errors):
    recover(errors)
    errors.leave("mirror", UNDONE)


@pytest.mark.parametrize(
    ("end", "meet", "code"),
    [
        (None, lambda errors: None, 0),
        (None, recover, 0),
        (None, fail, 1),
        (SweepError("no worker group is left"), recover, 1),
        (SweepError("no worker group is left"), fail, 1),
        (InterruptedSweepError(), recover, 130),
        (InterruptedSweepError(), fail, 130),
    ],
)
def test_errors_are_told_at_once_and_at_the_end_and_what_is_undone_fails(tune, end, meet, code):
    found, out, err = tune(end, meet)
    assert found == code, err
    assert out.count("ValueError: it broke") == (meet in (recover, fail)), "at once, and once"
    if meet is recover:
        assert "2 errors in the background (mirror); nothing was lost" in err
    if meet is fail:
        assert "2 errors in the background (mirror)\n" in err
        assert UNDONE in err
    assert ("driver.log" in err) == (meet in (recover, fail) or isinstance(end, SweepError))
