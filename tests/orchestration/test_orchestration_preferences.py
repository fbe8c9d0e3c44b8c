"""A sweep over preference settings: its trials, in two groups at a time, share one reference."""

import json

import yaml
from sweep_driver import SweepDriver
from sweep_runs import Runs

PAIRS = "package:hft_ray/demo/data/preference_test.jsonl"


def test_the_reference_is_asked_once_in_a_sweep(tiny_file, tmp_path):
    evaluation = [{"name": "pairs", "kind": "preference", "data": PAIRS, "metric": "reward_margin"}]
    file = tmp_path / "dpo.yaml"
    content = tiny_file | {
        "name": "dpo",
        "method": "dpo",
        "data": {"train": PAIRS, "limit": 20, "max_length": 48},
        "evaluation": {"task": evaluation},
        "search": {
            "trials": 4,
            "objectives": {"task/pairs": "max", "train/rewards_margin": "max"},
            "reference_point": {"train/rewards_margin": -1.0},
            "variants": {"averages": 0, "half_reset": False},
            "space": {"method.beta": [0.1, 0.5], "method.loss": ["sigmoid", "ipo"]},
        },
        "cluster": {"groups": 2},
    }
    file.write_text(yaml.safe_dump(content))
    root = tmp_path / "home"
    root.mkdir()
    driver = SweepDriver(file, root)
    try:
        assert driver.wait() == 0, driver.said()
    finally:
        driver.close()
    lines = (root / "cache/reference/computed.jsonl").read_text().splitlines()
    assert [json.loads(line)["pairs"] for line in lines] == [20]
    runs = Runs(root, "dpo")
    assert set(runs.states().values()) == {"complete"}
    for run in runs.trials.values():
        assert {"train/rewards_margin", "train/rewards_accuracy", "task/pairs"} <= set(
            run.data.metrics
        )
