"""A machine is lost with its storage root: another one goes on from the mirror in S3."""

from __future__ import annotations

import copy
import json
import shutil
import subprocess
import sys

import pytest
from servers import ObjectStore
from sweep_driver import SweepDriver, read_front, write_file

from hft_ray.artifacts.mirror import Mirror

pytestmark = [pytest.mark.soak, pytest.mark.cluster, pytest.mark.timeout(1800)]


@pytest.fixture
def s3(monkeypatch):
    server = ObjectStore()
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    yield server
    server.close()


def journal(root):
    lines = (root / "sweeps" / "lost" / "events.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_a_sweep_goes_on_from_its_mirror_and_exports_to_it(s3, tiny_file, tmp_path):
    content = copy.deepcopy(tiny_file) | {"name": "lost", "cluster": {"mirror": "s3://hft/mirror"}}
    content["training"] |= {"steps": 200, "checkpoint_every": 40, "log_every": 40}
    content["search"] = {
        "trials": 2,
        "space": {"selection.ratio": {"low": 0.2, "high": 0.8}},
        "variants": {"averages": 0, "half_reset": False},
    }
    file = write_file(tmp_path, content)
    one, other = tmp_path / "one", tmp_path / "other"
    for root in (one, other):
        root.mkdir()

    driver = SweepDriver(file, one)
    try:
        driver.wait_for_event("checkpoint", "t0001")
    finally:
        driver.close()
    saved = [each["step"] for each in journal(one) if each["event"] == "checkpoint"]
    shutil.rmtree(one)

    driver = SweepDriver(file, other)
    try:
        assert driver.wait(900) == 0, driver.said()
    finally:
        driver.close()
    assert {each["trial"] for each in journal(other) if each["event"] == "started"} == {"t0001"}
    again = [each["step"] for each in journal(other) if each["event"] == "checkpoint"]
    assert min(again) > min(saved)
    points = read_front(other, "lost")["points"]
    assert {point["trial"]: point["state"] for point in points} == dict.fromkeys(
        ("t0000", "t0001"), "complete"
    )

    export = [sys.executable, "-m", "hft_ray", "export", "lost", "--select", "knee"]
    export += ["--storage", str(other), "--out", "s3://hft/models/knee"]
    done = subprocess.run(export, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    Mirror("s3://hft/models").get("knee", tmp_path / "knee")
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= {
        path.name for path in (tmp_path / "knee").iterdir()
    }
