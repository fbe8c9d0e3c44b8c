"""``hft-ray tune --simulate``: a sweep from a table, through the command line."""

from __future__ import annotations

import json

import pytest


def test_a_sweep_is_replayed_extended_and_kept_apart(files, tune, tmp_path):
    file, table = files
    code, out, _ = tune(file, "--simulate", table, "--json")
    assert code == 0
    front = json.loads(out)
    folder = tmp_path / "home" / "simulated" / "s"
    assert front == json.loads((folder / "front" / "front.json").read_text())
    assert {path.suffix for path in (folder / "front").iterdir()} == {".json", ".html", ".png"}
    states = [point["state"] for point in front["points"]]
    assert len(states) == 25
    assert set(states) == {"complete", "pruned"}
    assert all(p["state"] == "complete" for p in front["points"] if p["on_front"])
    assert front["points"][0]["params"]["selection.ratio"] == 1.0
    assert front["base"]["task/score"] == 0.1
    assert front["reference_point"] == {
        "task/score": pytest.approx(10 / 90 * 2 / 30),
        "forgetting/mean": pytest.approx(1 + 28 / 30),
    }
    log = (folder / "logs" / "driver.log").read_text()
    assert log.count(" stops at rung ") == states.count("pruned")
    # No real sweep has begun, and MLflow has heard of none.
    assert not (tmp_path / "home" / "sweeps").exists()
    assert not (tmp_path / "home" / "mlflow.db").exists()

    code, out, _ = tune(file, "--simulate", table, "--set", "search.trials=30")
    assert code == 0
    assert "Front of s" in out
    longer = json.loads((folder / "front" / "front.json").read_text())
    assert longer["points"][:25] == [
        {**point, "on_front": now["on_front"]}
        for point, now in zip(front["points"], longer["points"], strict=False)
    ]
    assert len(longer["points"]) == 30


def test_what_does_not_fit_is_refused(files, tune, tmp_path):
    file, table = files
    code, _, err = tune(file, "--simulate", tmp_path / "none.jsonl")
    assert (code, "cannot be read" in err) == (2, True)
    assert not (tmp_path / "home").exists()
    assert tune(file, "--simulate", table)[0] == 0
    table.write_text(table.read_text().replace("0.02", "0.03"), encoding="utf-8")
    kept = tmp_path / "home" / "simulated" / "s" / "config.yaml"
    before = kept.read_text()
    code, _, err = tune(file, "--simulate", table, "--set", "search.trials=30")
    assert code == 2
    assert "began with another table" in err
    assert kept.read_text() == before
    assert tune(file, "--simulate", table, "--fresh")[0] == 2
