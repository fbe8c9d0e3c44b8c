"""``plan``, ``schema`` and the help of every command, in this process."""

import json
import sys

import pytest
import yaml
from typer.testing import CliRunner

from hft_ray import __version__
from hft_ray.cli import main
from hft_ray.cli.main import app
from hft_ray.config import Config

COMMANDS = sorted(command.name for command in app.registered_commands)


def invoke(*arguments, env=None):
    done = CliRunner().invoke(app, list(map(str, arguments)), env=env)
    assert done.exit_code == 0, done.output
    return done.output


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example(command):
    text = invoke(command, "--help", env={"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"})
    assert f"Example: hft-ray {command}" in text


def test_every_command_is_in_the_help():
    text = invoke("--help")
    for command in COMMANDS:
        assert command in text


def test_the_version_is_the_packages():
    assert invoke("--version").strip() == __version__


def test_the_schema_is_the_schema_of_file():
    assert json.loads(invoke("schema")) == json.loads(json.dumps(Config.model_json_schema()))


@pytest.fixture
def sweep_file(tiny_file, tmp_path):
    space = {"selection.ratio": {"low": 0.25, "high": 1.0}, "selection.granularity": ["layer"]}
    path = tmp_path / "sweep.yaml"
    path.write_text(yaml.safe_dump(tiny_file | {"search": {"space": space, "trials": 6}}))
    return path


def test_plan_prints_the_contracts_json_and_starts_nothing(sweep_file, tmp_path):
    home = tmp_path / "home"
    planned = json.loads(invoke("plan", sweep_file, "--json", "--storage", home))
    assert set(planned) == {
        "trials",
        "further_seeds",
        "groups",
        "workers",
        "model",
        "selection",
        "memory_per_worker_bytes",
        "seconds_estimate",
        "probe",
        "device_hours_estimate",
        "price_estimate",
        "problems",
        "unchecked",
    }
    assert planned["trials"] == 6
    assert [row["ratio"] for row in planned["selection"]] == [0.25, 1.0]
    assert set(planned["selection"][0]) >= {"granularity", "ratio", "budget", "fractions"}
    memory = planned["memory_per_worker_bytes"]
    assert set(memory) == {"model", "gradients", "optimizer", "activations"}
    assert planned["problems"] == []
    assert [path.name for path in home.iterdir()] == ["cache"]


def test_plan_shows_a_table(sweep_file, tmp_path):
    more = ("--set", "search.trials=9", "--set", "search.seeds=3")
    text = invoke("plan", sweep_file, "--storage", tmp_path / "home", *more)
    assert "9 trials and at most 18 further seeds on 1 groups x 1 workers" in text
    assert "with all further seeds " in text.replace("\n", " ")
    assert "100.0%" in text
    assert "memory per worker" in text


def test_plan_says_what_a_sweep_costs(sweep_file, tmp_path):
    more = ["--set", "cluster.price_per_device_hour=1e6", "--storage", tmp_path / "home"]
    planned = json.loads(invoke("plan", sweep_file, "--json", *more))
    hours = planned["device_hours_estimate"]
    assert hours == pytest.approx(planned["seconds_estimate"] / 3600)
    assert planned["price_estimate"] == pytest.approx(1e6 * hours)
    # Groups make it shorter and not cheaper.
    wide = json.loads(invoke("plan", sweep_file, "--json", *more, "--set", "cluster.groups=3"))
    assert wide["seconds_estimate"] == pytest.approx(planned["seconds_estimate"] / 3)
    assert wide["device_hours_estimate"] == pytest.approx(hours)
    text = " ".join(invoke("plan", sweep_file, *more, "--set", "search.seeds=2").split())
    assert f"that is about {hours:.3g} device hours, price {1e6 * hours:.2f}" in text
    assert f"with all further seeds {2 * hours:.3g} device hours" in text


def test_a_single_run_has_a_plan_too(tiny_file, tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(tiny_file))
    planned = json.loads(invoke("plan", path, "--json", "--storage", tmp_path / "home"))
    assert planned["trials"] == 1
    assert [row["ratio"] for row in planned["selection"]] == [0.5]


def test_an_interrupt_is_exit_code_130(monkeypatch, capsys, tmp_path):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("hft_ray.config.load.load", interrupt)
    monkeypatch.setattr(sys, "argv", ["hft-ray", "plan", str(tmp_path)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 130
    assert "Traceback" not in capsys.readouterr().err
