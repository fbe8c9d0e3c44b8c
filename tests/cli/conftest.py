"""A sweep to simulate, and the command that does."""

from __future__ import annotations

import json
import sys

import pytest
import yaml

from hft_ray.cli.main import main

FILE = {
    "name": "s",
    "model": "nowhere/model",
    "data": {"train": "nowhere.jsonl"},
    "training": {"steps": 90},
    "evaluation": {"every": 10},
    "search": {
        "space": {"selection.ratio": {"low": 0.1, "high": 0.9}},
        "trials": 25,
        "sampler": "random",
        "scheduler": "asha",
    },
    "cluster": {"groups": 4},
}


@pytest.fixture
def files(tmp_path, monkeypatch):
    """FILE and a table of 30 curves: more trained learns more and loses more."""
    monkeypatch.setenv("HFT_RAY_HOME", str(tmp_path / "home"))
    rows = [{"params": {}, "step": 0, "metrics": {"task/score": 0.1, "forgetting/mean": 0.0}}]
    for number in range(30):
        ratio = (number + 1) / 30
        for step in (10, 30, 90):
            metrics = {"task/score": step / 90 * ratio, "forgetting/mean": step / 90 * ratio**2}
            if number % 3 == 0:
                # A third is clearly worse, so that there is something to stop.
                metrics = {"task/score": 0.02, "forgetting/mean": 1.0 + ratio}
            params = {"selection.ratio": ratio}
            rows.append({"params": params, "step": step, "metrics": metrics, "seconds": step * 2.0})
    rows[0]["seconds"] = 0
    table = tmp_path / "t.jsonl"
    table.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    file = tmp_path / "f.yaml"
    file.write_text(yaml.safe_dump(FILE), encoding="utf-8")
    return file, table


@pytest.fixture
def tune(monkeypatch, capfd):
    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["hft-ray", "tune", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capfd.readouterr()
        return ended.value.code or 0, out, err

    return run
