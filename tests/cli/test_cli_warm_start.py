"""A sweep that begins with what earlier ones in MLflow have found."""

from __future__ import annotations

import json

import pytest
import yaml

from hft_ray.tracking import Tracker, artifact_location, tracking_uri

TWO = {"task/score": "max", "forgetting/mean": "min"}
NAMES = "search.warm_start=[same, other]"


def log_sweep(root, name, file, rows):
    """Log a sweep as a driver does: its FILE, its base, and a trial for each (params, values)."""
    uri = tracking_uri(None, root)
    places = {"spool": root / f"spool-{name}", "artifacts": artifact_location(uri, root)}
    tracker = Tracker(uri, "hft-ray", **places)
    tracker.open_sweep(name, yaml.safe_dump({**file, "name": name}), {}, {})
    tracker.describe_front(TWO, {"task/score": 0.0, "forgetting/mean": 2.0}, {"task/score": 0.1})
    for number, (params, values) in enumerate(rows):
        trial = f"t{number:04d}"
        tracker.open_trial(trial, params, {})
        tracker.log(trial, 90, values)
        tracker.finish_trial(trial, "complete")
    tracker.finish_sweep("complete")
    assert tracker.close(60)


def rows(ratios):
    return [({"selection.ratio": r}, {"task/score": r, "forgetting/mean": r**2}) for r in ratios]


@pytest.fixture
def earlier(files, tmp_path):
    """Two sweeps: one whose trials could be this one's, one of another model."""
    root = tmp_path / "home"
    root.mkdir()
    file = yaml.safe_load(files[0].read_text())
    # 0.95 lies outside the space.
    log_sweep(root, "same", file, rows([0.15, 0.35, 0.55, 0.75, 0.95]))
    log_sweep(root, "other", {**file, "model": "another"}, rows([0.2, 0.4, 0.6, 0.95, 1.0]))
    return files


def test_known_trials_and_first_points_from_sweeps_that_are_there(earlier, tune, tmp_path):
    file, table = earlier
    code, _, err = tune(file, "--simulate", table, "--set", "search.warm_start=[same, sam, s, x]")
    assert code == 2
    assert "search.warm_start.1" in err
    assert "did you mean 'same'" in err
    assert "search.warm_start.2: is this sweep" in err
    assert "search.warm_start.3" in err
    assert not (tmp_path / "home" / "simulated").exists()

    given = ("--set", "search.sampler=tpe", "--set", "search.trials=16", "--set", NAMES)
    code, out, err = tune(file, "--simulate", table, *given)
    assert code == 0, err
    assert "4 trials are known, 3 points to begin with, from same, other" in out.replace("\n", " ")
    folder = tmp_path / "home" / "simulated" / "s"
    warm = json.loads((folder / "warm.json").read_text())
    assert [each["source"] for each in warm["known"]] == [f"same/t000{n}" for n in range(4)]
    assert [each["values"] for each in warm["known"]][:1] == [[0.15, pytest.approx(0.0225)]]
    front = json.loads((folder / "front" / "front.json").read_text())
    ratios = [point["params"]["selection.ratio"] for point in front["points"]]
    assert len(ratios) == 16
    # Full fine-tuning, then the other sweep's front; what is known is no trial of this sweep.
    assert ratios[0] == 1.0
    assert sorted(ratios[1:4]) == [0.2, 0.4, 0.6]
    assert not {0.15, 0.35, 0.55, 0.75} & set(ratios)

    # The earlier sweeps are not asked again.
    (tmp_path / "home" / "mlflow.db").rename(tmp_path / "elsewhere.db")
    more = ("--set", "search.trials=18")
    code, _, err = tune(file, "--simulate", table, *given, *more)
    assert code == 0, err
    longer = json.loads((folder / "front" / "front.json").read_text())
    assert len(longer["points"]) == 18
    assert [point["params"] for point in longer["points"][:16]] == [
        point["params"] for point in front["points"]
    ]
