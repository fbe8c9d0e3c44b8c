"""Constraints and a preference, through the command line."""

from __future__ import annotations

import json


def simulate(tune, files, *arguments):
    code, out, err = tune(files[0], "--simulate", files[1], "--json", *arguments)
    return code, json.loads(out) if code == 0 else None, err


def test_points_outside_the_constraints_are_told_apart(files, tune, tmp_path):
    constraint = "search.constraints=['forgetting/mean <= 0.25', 'task/score >= 1.5 * base']"
    code, front, _ = simulate(tune, files, "--set", constraint)
    assert code == 0
    complete = [point for point in front["points"] if point["state"] == "complete"]
    assert front["base"]["task/score"] == 0.1
    for point in complete:
        kept = point["values"]["forgetting/mean"] <= 0.25 and point["values"]["task/score"] >= 0.15
        assert point["feasible"] == kept
    assert {point["feasible"] for point in complete} == {True, False}
    assert all(point["feasible"] for point in front["points"] if point["on_front"])
    # Full fine-tuning runs in any case; it loses too much.
    assert front["points"][0]["state"] == "complete"
    assert not front["points"][0]["feasible"]
    assert front["knee"] in [point["trial"] for point in front["points"] if point["feasible"]]
    page = (tmp_path / "home" / "simulated" / "s" / "front" / "front.html").read_text()
    assert "outside the constraints" in page

    # The same trials, another wish: that is another sweep.
    code, _, err = simulate(tune, files, "--set", constraint.replace("0.25", "0.5"))
    assert code == 2
    assert "search.constraints: was" in err


def test_the_knee_follows_the_preference(files, tune):
    knees = {}
    for name, wish in {"task": "task/score", "kept": "forgetting/mean"}.items():
        preference = f"search.preference={{weights: {{{wish}: 50}}}}"
        code, front, _ = simulate(tune, files, "--set", f"name={name}", "--set", preference)
        assert code == 0
        values = {p["trial"]: p["values"] for p in front["points"] if p["on_front"]}
        knees[name] = values[front["knee"]]
        best = max if name == "task" else min
        assert knees[name][wish] == best(each[wish] for each in values.values())
    assert knees["task"]["task/score"] > knees["kept"]["task/score"]


def test_wrong_constraints_are_refused_together(files, tune, tmp_path):
    code, _, err = tune(
        *(files[0], "--simulate", files[1]),
        *("--set", "search.constraints=['task/score > 1', 'cost/x <= 2 * base']"),
        *("--set", "search.preference={weights: {task/scor: 1}}"),
    )
    assert code == 2
    assert err.count("search.constraints.") == 2
    code, _, err = tune(
        *(files[0], "--simulate", files[1]),
        *("--set", "search.constraints=['general/score >= 0.9 * base']"),
    )
    assert code == 2
    assert "general/score" in err
    assert not (tmp_path / "home" / "simulated" / "s" / "front").exists()
