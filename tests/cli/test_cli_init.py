"""``hft-ray init`` writes a FILE that plan accepts, for data in several forms."""

import csv
import json
from importlib.resources import files
from pathlib import Path

import pytest
import torch
import yaml
from typer.testing import CliRunner

from hft_ray.cli.main import app
from hft_ray.config import ConfigError, Model
from hft_ray.ranks import Ranks
from hft_ray.scaffold import Machine, Wishes, first_file, read_source
from hft_ray.training import Workspace

DEMO = files("hft_ray") / "demo"
MODEL = "package:hft_ray/demo/model"


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HFT_RAY_HOME", str(tmp_path / "home"))


def facts(number=60):
    lines = (DEMO / "data" / "task_train.jsonl").read_text().splitlines()[:number]
    return [json.loads(line) for line in lines]


def a_table():
    with Path("facts.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["Question", "Answer"])
        writer.writerows([each["prompt"], each["completion"].strip()] for each in facts())
    return "facts.csv"


def dialogues():
    turns = [
        [
            {"role": "user", "content": each["prompt"]},
            {"role": "assistant", "content": each["completion"]},
        ]
        for each in facts()
    ]
    Path("chats.jsonl").write_text("".join(json.dumps({"messages": x}) + "\n" for x in turns))
    return "chats.jsonl"


def texts():
    Path("notes").mkdir()
    for number in range(50):
        Path("notes", f"{number}.txt").write_text(f"The capital of {number} is {number + 1}.")
    return "notes"


def run(*arguments):
    return CliRunner().invoke(app, list(arguments), catch_exceptions=False)


@pytest.mark.parametrize("make", [a_table, dialogues, texts])
def test_plan_accepts_what_is_written(make):
    data = make()
    done = run("init", MODEL, data, "--hours", "0.2")
    assert done.exit_code == 0, done.output
    name = Path(data).stem
    assert f"next: hft-ray plan {name}.yaml, then: hft-ray tune {name}.yaml" in done.output
    text = Path(f"{name}.yaml").read_text()
    settings = [line for line in text.splitlines() if ": " in line and line.lstrip()[0] != "#"]
    bare = [n for n, line in enumerate(settings) if "  # " not in line]
    lines = text.splitlines()
    for n in bare:
        above = lines[lines.index(settings[n]) - 1]
        assert above.lstrip().startswith("# "), f"no reason beside or above {settings[n]}"
    planned = run("plan", f"{name}.yaml", "--json")
    assert planned.exit_code == 0, planned.output
    assert json.loads(planned.output)["trials"] == yaml.safe_load(text)["search"]["trials"]


def test_nothing_is_overwritten():
    data = a_table()
    Path("facts-data").mkdir()
    Path("facts-data/train.jsonl").write_text("mine")
    with pytest.raises(ConfigError, match="is there already; choose another --name"):
        run("init", MODEL, data)
    assert not Path("facts.yaml").exists()
    assert Path("facts-data/train.jsonl").read_text() == "mine"


def test_a_suite_that_does_not_exist_is_refused():
    with pytest.raises(ConfigError, match="is not a suite; known are"):
        run("init", MODEL, a_table(), "--keep", "everything")


def test_what_is_asked_interactively_is_taken():
    answers = "mine\n0.5\ndemo-facts\n"
    done = CliRunner().invoke(
        app, ["init", MODEL, a_table(), "--interactive"], input=answers, catch_exceptions=False
    )
    assert done.exit_code == 0, done.output
    assert yaml.safe_load(Path("mine.yaml").read_text())["name"] == "mine"


def test_a_file_that_is_refused_is_not_left_behind():
    with pytest.raises(ConfigError, match="name"):
        run("init", MODEL, a_table(), "--name", "my sweep")
    assert not Path("my sweep.yaml").exists()
    assert not list(Path().glob("*/train.jsonl"))


def test_a_machine_with_more_places_than_trials_has_trials(tmp_path):
    source = read_source(a_table())
    workspace = Workspace(tmp_path / "home", Ranks(), torch.device("cpu"))
    large = Machine(gpus=0, gpu_bytes=0, cores=200, bytes=2**42)
    first = first_file(Model(name=MODEL), source, Wishes("facts", 2.0), large, workspace)
    written = yaml.safe_load(first.text)
    assert written["search"]["trials"] == 64
    assert written["cluster"]["groups"] == 64
