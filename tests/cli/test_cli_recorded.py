"""A sweep over the demo's recorded curves: 60 configurations, three seeds, seven averages each."""

from __future__ import annotations

import gzip
import json
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from hft_ray.pareto.dominance import minimised
from hft_ray.pareto.hypervolume import hypervolume

ROOT = Path(__file__).parents[2]
FILE = ROOT / "benchmarks" / "curves.yaml"
TABLE = ROOT / "tests" / "search" / "data" / "demo_curves.jsonl.gz"
OBJECTIVES = {"task/score": "max", "forgetting/mean": "min"}
SEEDS = {"selection.seed", "training.seed"}


@pytest.fixture(scope="module")
def recorded():
    """Settings as text -> seed -> scores by step, then those of the averages."""
    rows = [json.loads(line) for line in gzip.decompress(TABLE.read_bytes()).splitlines()]
    assert rows[0]["step"] == 0
    found = defaultdict(lambda: defaultdict(list))
    for row in rows[1:]:
        params = {key: x for key, x in row["params"].items() if key not in SEEDS}
        found[json.dumps(params)][row["params"]["training.seed"]].append(row)
    return found


def test_every_curve_is_whole(recorded):
    assert len(recorded) == 60
    for seeds in recorded.values():
        assert set(seeds) == {0, 1, 2}
        for rows in seeds.values():
            assert [row["step"] for row in rows] == [*range(9, 82, 9), *[81] * 7]
            assert [row["variant"] for row in rows[9:]] == [f"alpha-{n / 8:g}" for n in range(1, 8)]
            assert all(OBJECTIVES.keys() <= row["metrics"].keys() for row in rows)


def test_a_sweep_with_seeds_and_stopping_finds_the_front(recorded, tune, monkeypatch, tmp_path):
    monkeypatch.setenv("HFT_RAY_HOME", str(tmp_path / "home"))
    given = ("search.trials=24", "search.seeds=3", "search.scheduler=asha")
    arguments = [each for one in given for each in ("--set", one)]
    code, out, err = tune(FILE, "--simulate", TABLE, "--json", *arguments)
    assert code == 0, err
    front = json.loads(out)
    states = Counter(point["state"] for point in front["points"])
    assert states.keys() == {"complete", "pruned"}
    trained = [point for point in front["points"] if point["variant"] is None]
    first = [point for point in trained if point["trial"] == point["configuration"]]
    assert len(first) == 24
    on_front = [each for each in front["configurations"] if each["on_front"]]
    # Averages are placed by each seed for itself, so not all have three.
    ends = [each for each in on_front if each["variant"] is None]
    assert ends
    assert all(len(each["trials"]) == 3 for each in ends)
    # Seeds are curves of their own, not one curve three times.
    assert any(each["errors"]["task/score"] > 0 for each in on_front)
    low, high = front["hypervolume_interval"]
    assert low < high
    # What it finds in 24 configurations is most of what all 180 curves have.
    means = [
        {name: sum(rows[n]["metrics"][name] for rows in seeds.values()) / 3 for name in OBJECTIVES}
        for seeds in recorded.values()
        for n in range(8, 16)
    ]
    corner = minimised([front["reference_point"]], OBJECTIVES)[0]
    whole = hypervolume(minimised(means, OBJECTIVES), corner)
    assert 0.8 * whole < front["hypervolume"] < 1.1 * whole
