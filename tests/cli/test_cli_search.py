"""Ending, extending, narrowing and further seeds of a sweep, through the command line."""

from __future__ import annotations

import json
import random

import pytest

FREE = ("--set", "search.scheduler=none", "--set", "search.sampler=tpe")


def simulate(tune, files, *arguments):
    code, out, err = tune(files[0], "--simulate", files[1], "--json", *arguments)
    return code, json.loads(out) if code == 0 else None, err


def same_trials(front, longer):
    kept = ("trial", "params", "values", "state")
    pairs = zip(front["points"], longer["points"], strict=False)
    return all(one[key] == other[key] for one, other in pairs for key in kept)


def test_a_budget_ends_the_sweep_and_a_larger_one_goes_on(files, tune, tmp_path):
    # A trial takes 180 virtual seconds, and four run at once.
    hour = 15 * 180 / 3600
    given = (*FREE, "--set", f"search.budget={{device_hours: {hour / 1.5}}}")
    code, front, _ = simulate(tune, files, *given)
    assert code == 0
    # Ten trials spend it, and those under way end.
    assert 10 <= len(front["points"]) <= 13
    assert {point["state"] for point in front["points"]} == {"complete"}
    given = (*FREE, "--set", f"search.budget={{hours: {hour / 2.5}}}")
    code, longer, _ = simulate(tune, files, *given)
    assert code == 0
    # The time of both commands counts: six rounds of four.
    assert 13 < len(longer["points"]) <= 24
    assert same_trials(front, longer)
    log = (tmp_path / "home" / "simulated" / "s" / "search.jsonl").read_text()
    assert '"seconds"' in log
    code, whole, _ = simulate(tune, files, *FREE)
    assert len(whole["points"]) == 25
    assert same_trials(longer, whole)


def test_a_plateau_ends_the_search_and_says_so(files, tune):
    plateau = "search.plateau={trials: 6, share: 0.2}"
    code, out, _ = tune(files[0], "--simulate", files[1], *FREE, "--set", plateau)
    assert code == 0
    assert "ended early: the last 6 configurations added" in out.replace("\n", " ")
    # Without it the same sweep goes on.
    code, front, _ = simulate(tune, files, *FREE)
    assert len(front["points"]) == 25


def test_a_narrower_space_goes_on_with_what_is_known(files, tune):
    wide = "search.space.selection.granularity=[model, layer, category]"
    code, front, _ = simulate(tune, files, *FREE, "--set", wide, "--set", "search.trials=14")
    assert code == 0
    narrow = (
        *("--set", "search.space.selection.granularity=[layer, category]"),
        *("--set", "search.space.selection.ratio={low: 0.3, high: 0.6}"),
    )
    code, longer, _ = simulate(tune, files, *FREE, *narrow, "--set", "search.trials=26")
    assert code == 0
    assert same_trials(front, longer)
    late = [point["params"] for point in longer["points"][14:]]
    assert len(late) == 12
    assert all(0.3 <= params["selection.ratio"] <= 0.6 for params in late)
    assert {params["selection.granularity"] for params in late} <= {"layer", "category"}
    outside = [p for p in longer["points"][:14] if not 0.3 <= p["params"]["selection.ratio"] <= 0.6]
    assert any(point["on_front"] for point in outside)
    # Back to the wider one, or to another setting, is another sweep.
    code, _, err = simulate(tune, files, *FREE, "--set", wide, "--set", "search.trials=26")
    assert code == 2
    assert err.count("it can only be narrowed") == 2
    seeds = ("--set", "search.space.training.seed=[1, 2]")
    code, _, err = simulate(tune, files, *FREE, *narrow, *seeds, "--set", "search.trials=26")
    assert code == 2
    assert "was not searched when the sweep began" in err


@pytest.fixture
def seeded(files):
    """The table of :func:`files` with three seeds of each configuration, which differ a little."""
    rng = random.Random(0)
    rows = [json.loads(line) for line in files[1].read_text().splitlines()]
    written = [rows[0]]
    for row in rows[1:]:
        for seed in range(3):
            params = {**row["params"], "selection.seed": seed, "training.seed": seed}
            metrics = {key: x + rng.gauss(0, 0.02) for key, x in row["metrics"].items()}
            written.append({**row, "params": params, "metrics": metrics})
    files[1].write_text("".join(json.dumps(row) + "\n" for row in written), encoding="utf-8")
    return files


def test_configurations_near_the_front_get_more_seeds(seeded, tune):
    code, front, _ = simulate(tune, seeded, *FREE, "--set", "search.seeds=3")
    assert code == 0
    trials = {}
    for point in front["points"]:
        trials.setdefault(point["configuration"], []).append(point)
    assert len(trials) == 25
    counts = {name: len(points) for name, points in trials.items()}
    assert set(counts.values()) == {1, 2, 3} or set(counts.values()) == {1, 3}
    assert 3 * 25 > len(front["points"]) > 25 + 2 * 3
    for name, points in trials.items():
        assert points[0]["trial"] == name
        assert {json.dumps(p["params"]["selection.ratio"]) for p in points} == {
            json.dumps(points[0]["params"]["selection.ratio"])
        }
        assert len({p["on_front"] for p in points}) == 1
    told = {each["configuration"]: each for each in front["configurations"]}
    assert told.keys() == trials.keys()
    best = [each for each in told.values() if each["on_front"]]
    # Whoever is on the front has all its seeds; whoever is clearly behind has one.
    assert all(len(each["trials"]) == 3 for each in best)
    assert all(0 < each["probability"] <= 1 for each in best)
    clearly = [n for n, ps in trials.items() if ps[0]["values"]["forgetting/mean"] > 1.2]
    assert clearly
    assert all(counts[name] == 1 for name in clearly if name != "t0000")
    for name, each in told.items():
        values = [point["values"]["task/score"] for point in trials[name]]
        assert each["values"]["task/score"] == pytest.approx(sum(values) / len(values))
        low, high = each["intervals"]["task/score"]
        assert low < each["values"]["task/score"] < high
    low, high = front["hypervolume_interval"]
    assert low < high
    assert front["knee"] in trials
    # What was given seeds in a sweep that is over is given more when more are allowed.
    code, more, _ = simulate(tune, seeded, *FREE, "--set", "search.seeds=4")
    assert code == 0
    assert len(more["points"]) > len(front["points"])
    assert same_trials(front, more)


def test_seeds_that_agree_to_the_last_digit_tell_nothing_of_the_noise(files, tune):
    code, front, _ = simulate(tune, files, *FREE, "--set", "search.seeds=2")
    assert code == 0
    assert max(len(each["trials"]) for each in front["configurations"]) == 2
    assert front["hypervolume_interval"] is None


def test_a_searched_seed_is_no_noise(files, tune):
    seeds = ("--set", "search.seeds=2", "--set", "search.space.selection.seed=[0, 4]")
    code, _, err = simulate(tune, files, *seeds)
    assert code == 2
    assert "selection.seed is searched, so it is not a repetition" in err
    code, front, _ = simulate(tune, files, *seeds, "--set", "search.seed_keys=[training.seed]")
    assert code == 0
    further = [p for p in front["points"] if p["trial"] != p["configuration"]]
    first = {p["trial"]: p["params"]["selection.seed"] for p in front["points"]}
    assert further
    assert all(p["params"]["selection.seed"] == first[p["configuration"]] for p in further)
