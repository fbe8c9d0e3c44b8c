"""Bad input: a message of one screen, exit code 2, and nothing is started."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from hft_ray.cli import main
from hft_ray.config.keys import place

SCREEN = 24
SPACE = {"selection.ratio": {"low": 0.25, "high": 1.0}}


@pytest.fixture
def sweep_file(tiny_file):
    """A FILE of a small sweep that nothing is wrong with."""
    file = yaml.safe_load(yaml.safe_dump(tiny_file))
    return file | {"search": {"space": dict(SPACE), "trials": 2}}


@pytest.fixture
def home(tmp_path, monkeypatch):
    """The storage root, which no command may write a sweep into."""
    monkeypatch.setenv("HFT_RAY_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    # process_group() would leave it behind for the tests that follow.
    monkeypatch.setenv("LOCAL_RANK", "0")
    return tmp_path / "home"


@pytest.fixture
def hft_ray(monkeypatch, capsys):
    """Run a command in this process; return exit code and what it wrote to stderr."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["hft-ray", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        written = capsys.readouterr()
        assert written.out == ""
        return ended.value.code, written.err

    return run


def write(folder, content, name="run.yaml"):
    path = Path(folder, name)
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return path


def assert_refused(code, message, home, expected):
    assert code == 2, message
    for part in expected:
        assert part in message
    assert message.startswith("error: ")
    assert message.endswith("Nothing was started.\n")
    assert "Traceback" not in message
    assert len(message.splitlines()) <= SCREEN
    assert not (home / "sweeps").exists()
    assert not (home / "mlflow.db").exists()


def empty_folder(folder):
    (folder / "no-model").mkdir()
    return str(folder / "no-model")


SETTINGS = {
    "unknown key": ({"selection.ratioo": 0.5}, ["selection.ratioo", "did you mean 'ratio'"]),
    "unknown section": ({"trainin": {}}, ["trainin", "did you mean 'training'"]),
    "wrong type": ({"training.steps": "many"}, ["training.steps", "integer", "'many'"]),
    "ratio 0": ({"selection.ratio": 0}, ["selection.ratio", "greater than 0", "given: 0"]),
    "ratio above 1": ({"selection.ratio": 1.5}, ["selection.ratio", "less than or equal to 1"]),
    "a batch that ranks do not divide": (
        {"cluster.workers": 3, "cluster.cpus_per_worker": 0.1},
        ["training.batch_size", "multiple of 3 workers", "given: 8"],
    ),
    "more workers than the cluster has": (
        {"cluster.workers": 512, "training.batch_size": 512},
        ["cluster: 1 groups x 512 workers", "do not fit"],
    ),
    "an objective that nothing produces": (
        {"search.objectives": {"task/accuracy": "max", "forgetting/mean": "min"}},
        ["search.objectives.task/accuracy", "produced by no evaluation", "task/answers"],
    ),
    "a search key that does not exist": (
        {"search.space": {"selection.ration": [0.5, 1.0]}},
        ["search.space.selection.ration", "did you mean 'selection.ratio'"],
    ),
    "a searched value that is not allowed": (
        {"search.space": {"selection.ratio": {"low": 0.0, "high": 1.0}}},
        ["search.space.selection.ratio", "greater than 0"],
    ),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_a_wrong_setting(name, hft_ray, home, sweep_file, tmp_path):
    changes, expected = SETTINGS[name]
    for path, value in changes.items():
        place(sweep_file, path, value) if "." in path else sweep_file.update({path: value})
    file = write(tmp_path, sweep_file)
    code, message = hft_ray("tune", file)
    assert_refused(code, message, home, [*expected, "problem"])


DATA = {
    "missing file": (None, ["data.train", "no such file", "absent.jsonl"]),
    "malformed JSONL": ('{"text": "a"}\n{"text": "b"\n', ["data.jsonl:2", "not valid JSON"]),
    "empty data set": ("", ["data.train", "the data set is empty"]),
    "a record without the needed field": (
        '{"prompt": "a", "completion": "b"}\n{"prompt": "a"}\n',
        ["data.jsonl:2", "completion"],
    ),
    "very many bad records": ('{"text": 1}\n' * 500, ["data.jsonl:1:", "more like these"]),
}


@pytest.mark.parametrize("name", DATA)
@pytest.mark.parametrize("command", ["tune", "plan"])
def test_wrong_data(name, command, hft_ray, home, sweep_file, tmp_path):
    content, expected = DATA[name]
    data = tmp_path / "absent.jsonl" if content is None else write(tmp_path, content, "data.jsonl")
    sweep_file["data"]["train"] = str(data)
    code, message = hft_ray(command, write(tmp_path, sweep_file))
    assert_refused(code, message, home, expected)


@pytest.mark.parametrize("command", ["tune", "plan"])
def test_a_model_directory_that_is_none(command, hft_ray, home, sweep_file, tmp_path):
    sweep_file["model"] = empty_folder(tmp_path)
    code, message = hft_ray(command, write(tmp_path, sweep_file))
    assert_refused(code, message, home, ["model.name", "no config.json", "no-model"])


def test_train_refuses_before_it_makes_its_folder(hft_ray, home, tiny_file, tmp_path):
    file = write(tmp_path, tiny_file | {"model": empty_folder(tmp_path)})
    code, message = hft_ray("train", file, "--out", tmp_path / "out")
    assert_refused(code, message, home, ["model.name", "no config.json"])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", ["tune", "plan", "train"])
def test_a_missing_file(command, hft_ray, home, tmp_path):
    out = ["--out", tmp_path / "out"] if command == "train" else []
    code, message = hft_ray(command, tmp_path / "absent.yaml", *out)
    assert_refused(code, message, home, ["absent.yaml", "cannot be read"])


def test_a_wrong_override(hft_ray, home, sweep_file, tmp_path):
    code, message = hft_ray("tune", write(tmp_path, sweep_file), "--set", "selection.ratio=7")
    assert_refused(code, message, home, ["selection.ratio", "given: 7"])


def test_tune_without_a_search(hft_ray, home, tiny_file, tmp_path):
    code, message = hft_ray("tune", write(tmp_path, tiny_file))
    assert_refused(code, message, home, ["search: is missing", "hft-ray train"])


def test_everything_is_told_at_once(hft_ray, home, sweep_file, tmp_path):
    sweep_file["model"] = empty_folder(tmp_path)
    sweep_file["data"]["train"] = str(tmp_path / "absent.jsonl")
    sweep_file["evaluation"]["task"][0]["data"] = str(tmp_path / "gone.jsonl")
    sweep_file["cluster"] = {"workers": 3}
    file = write(tmp_path, sweep_file)
    code, message = hft_ray("tune", file)
    expected = ["training.batch_size", "model.name", "data.train", "evaluation.task.0.data"]
    assert_refused(code, message, home, [*expected, f"problems in {file}"])


@pytest.mark.parametrize("arguments", [["tune"], ["tune", "x", "--nonsense"], ["dance"]])
def test_wrong_usage(arguments, hft_ray, home):
    code, message = hft_ray(*arguments)
    assert code == 2
    assert "Usage" in message
    assert "Traceback" not in message
    assert not home.exists()


def test_the_real_command_refuses_as_well(home, sweep_file, tmp_path):
    sweep_file["selection"] = {"ratio": 0, "granularityy": "layer"}
    done = subprocess.run(
        [sys.executable, "-m", "hft_ray", "tune", str(write(tmp_path, sweep_file))],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        timeout=120,
        check=False,
    )
    assert done.stdout == ""
    expected = ["2 problems", "selection.ratio", "granularityy", "did you mean 'granularity'"]
    assert_refused(done.returncode, done.stderr, home, expected)
