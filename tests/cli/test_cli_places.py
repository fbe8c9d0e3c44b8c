"""Commands that take NAME read what the sweep wrote; its closing lines say how to run them."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from hft_ray.cli.main import app
from hft_ray.cli.next_commands import next_commands
from hft_ray.config import ConfigError
from hft_ray.orchestration.sweep_place import tracked_at
from hft_ray.tracking import Tracker, artifact_location, tracking_uri

FILE = {
    "name": "s",
    "model": "m",
    "data": {"train": "t.jsonl"},
    "search": {"space": {"selection.ratio": {"low": 0.1, "high": 1.0}}, "trials": 2},
}
OBJECTIVES = {"task/score": "max", "forgetting/mean": "min"}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A storage root with the folder of a sweep that was tracked in a place of its own."""
    root = tmp_path_factory.mktemp("root")
    uri = f"sqlite:///{root}/elsewhere.db"
    file = yaml.safe_dump(FILE | {"tracking": {"uri": uri, "experiment": "mine"}})
    folder = root / "sweeps" / "s"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(file, encoding="utf-8")
    (folder / ".hft-ray.json").write_text('{"sweep": "s"}', encoding="utf-8")
    tracker = Tracker(uri, "mine", spool=root / "spool", artifacts=artifact_location(uri, root))
    tracker.open_sweep("s", file, {}, {})
    tracker.describe_front(OBJECTIVES, {"task/score": 0.0, "forgetting/mean": 1.0}, {})
    for trial, score in (("t0000", 0.5), ("t0001", 0.7)):
        tracker.open_trial(trial, {"selection.ratio": 0.5}, {})
        tracker.log(trial, 8, {"task/score": score, "forgetting/mean": score / 2})
        tracker.finish_trial(trial, "complete")
    tracker.finish_sweep("complete")
    assert tracker.close(300)
    return root


@pytest.mark.parametrize("command", ["status", "report", "stop"])
def test_a_command_reads_where_the_sweep_wrote(command, root):
    done = CliRunner().invoke(app, [command, "s", "--storage", str(root), "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["sweep"] == "s"


def test_report_opens_its_page_and_writes_a_pdf(root, tmp_path, monkeypatch):
    opened = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    pdf = tmp_path / "new" / "front.pdf"
    arguments = ["report", "s", "--storage", str(root), "--open", "--pdf", str(pdf)]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert opened == [(root / "sweeps/s/front/front.html").as_uri()]
    assert pdf.read_bytes().startswith(b"%PDF")


def test_what_is_given_wins(root, tmp_path):
    own = (f"sqlite:///{root}/elsewhere.db", "mine")
    assert tracked_at(root, "s") == own
    assert tracked_at(root, "s", "http://host:1", "other") == ("http://host:1", "other")
    assert tracked_at(root, "s", experiment="other") == (own[0], "other")
    assert tracked_at(tmp_path, "s") == (tracking_uri(None, tmp_path), "hft-ray")


def test_a_file_that_cannot_be_read_is_told(tmp_path):
    folder = tmp_path / "sweeps" / "s"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("tracking: [", encoding="utf-8")
    with pytest.raises(ConfigError, match="give --tracking-uri"):
        tracked_at(tmp_path, "s")


@pytest.mark.parametrize("storage", ["results", "/elsewhere/my results", None])
def test_the_closing_lines_name_the_storage_where_they_must(storage, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HFT_RAY_HOME", str(tmp_path / "home"))
    root = tmp_path / storage if storage else tmp_path / "home"
    commands = dict(next_commands("s", root, tracking_uri(None, root)))
    for what in ("export", "again"):
        words = shlex.split(commands[what])
        assert Path(words[0]).name == "hft-ray"
        named = words[words.index("--storage") + 1] if "--storage" in words else None
        assert named == storage
    assert shlex.split(commands["look"])[-1] == tracking_uri(None, root)
    server = dict(next_commands("s", root, "http://host:5000"))
    assert server["look"] == "http://host:5000"
