"""The GPU kit runs whole with tiny shapes on a CPU."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

KIT = Path(__file__).parents[2] / "benchmarks" / "gpu" / "kit.py"
PARTS = ["correctness", "speed", "kernels", "large", "trainers", "demo"]


def rehearse(out: Path, parts: list[str], seconds: int) -> tuple[int, dict]:
    command = [sys.executable, str(KIT), "--tiny", "--out", str(out), "--parts", ",".join(parts)]
    done = subprocess.run([*command, "--seconds", str(seconds)], capture_output=True, text=True)
    return done.returncode, json.loads((out / "gpu.json").read_text())["parts"]


def test_a_part_gives_its_rows(tmp_path):
    code, found = rehearse(tmp_path, ["large"], 500)
    assert (code, found["large"]["error"]) == (0, None)
    steps = {row["what"]: row for row in found["large"]["rows"]}
    assert list(steps) == ["weights", "engine", "steps", "re-selection"]
    assert steps["steps"]["tokens_per_second"] > 0


def test_a_part_without_time_is_an_error_and_loses_nothing(tmp_path):
    code, found = rehearse(tmp_path, ["kernels", "large"], 4)
    assert code == 1
    assert [each["error"] for each in found.values()] == ["no time left"] * 2


@pytest.mark.soak
def test_every_part_gives_rows(tmp_path):
    code, found = rehearse(tmp_path, PARTS, 3000)
    assert {part: each["error"] for part, each in found.items()} == dict.fromkeys(PARTS)
    assert all(each["rows"] for each in found.values())
    assert code == 0
