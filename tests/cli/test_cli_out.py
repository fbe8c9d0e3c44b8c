"""What ``--out`` and a sweep's folder may be: nothing that a command did not write is touched."""

import json
import os
import re
import sys

import pytest
import yaml

from hft_ray.cli.main import main
from hft_ray.cli.train_run import FILES, FOLDERS
from hft_ray.config import ConfigError
from hft_ray.config.load import parse
from hft_ray.orchestration.folder import SweepFolder
from hft_ray.out_folder import MARKER, OutFolder, check_new
from hft_ray.training.checkpoint import CHECKPOINT_FILES


def train_folder(path):
    return OutFolder(path, "train", [*FILES, "train-0.log"], FOLDERS, changing=CHECKPOINT_FILES)


def write(path, text="x"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def content(folder):
    """Every path below a folder with what it holds."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


def a_run(path):
    """Leave what a run leaves: two checkpoints, a model, a result."""
    folder = train_folder(path)
    with folder.held({}):
        for step in (1, 2):
            write(path / f"checkpoints/step-{step:08d}/manifest.json")
            write(path / f"checkpoints/step-{step:08d}/state-00001-00000.safetensors")
        write(path / "model/config.json")
        write(path / "model/more/weights.safetensors")
        folder.record("model")
        write(path / "result.json")
        write(path / "train-0.log")
    return folder


@pytest.mark.parametrize(
    "name",
    [
        "model/config.json",
        "model",
        "checkpoints/mine/weights.bin",
        "checkpoints/step-00000001/notes.txt",
        "checkpoints/step-00000001/manifest.json",
        "result.json",
        ".result.json",
        "selection.png",
        "tasks.csv",
        "train-0.log",
        "result.json/file",
        MARKER,
    ],
)
def test_what_is_in_the_way_is_named_and_stays(tmp_path, name):
    out = tmp_path / "out"
    write(out / name)
    before = content(tmp_path)
    with pytest.raises(ConfigError, match=re.escape(name.split("/file")[0])):
        train_folder(out).check({})
    with pytest.raises(ConfigError), train_folder(out).held({}):
        raise AssertionError("it began")
    assert content(tmp_path) == before


@pytest.mark.parametrize("name", ["x" * 300, "circle"])
def test_a_name_that_cannot_be_a_folder_is_refused(tmp_path, name):
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    out = tmp_path / name / "in"
    with pytest.raises(ConfigError, match="cannot be a directory"):
        train_folder(out).check({})
    with pytest.raises(ConfigError, match="cannot be a directory"):
        check_new(out, {})


@pytest.mark.parametrize("text", ["[]", '{"train": [1, null]}', '{"sweep": "s"}'])
def test_a_list_of_another_kind_is_in_the_way(tmp_path, text):
    write(tmp_path / MARKER, text)
    with pytest.raises(ConfigError, match=re.escape(MARKER)):
        train_folder(tmp_path).check({})


def test_a_lock_that_is_no_file_is_in_the_way(tmp_path):
    (tmp_path / ".hft-ray.lock").mkdir()
    with pytest.raises(ConfigError, match=re.escape(".hft-ray.lock")):
        train_folder(tmp_path).check({})


def test_the_list_is_written_over_nothing(tmp_path):
    write(tmp_path / f"{MARKER}.tmp")
    with train_folder(tmp_path).held({}):
        assert (tmp_path / f"{MARKER}.tmp").read_text() == "x"


@pytest.mark.parametrize("link", ["model", "checkpoints", "result.json", "model/config.json"])
def test_a_link_is_never_followed(tmp_path, link):
    target = tmp_path / "elsewhere"
    write(target / "precious")
    a_run(tmp_path / "out").clear("model", "checkpoints", "result.json")
    path = tmp_path / "out" / link
    path.parent.mkdir(exist_ok=True)
    path.symlink_to(target if "." not in link else target / "precious")
    with pytest.raises(ConfigError, match=link):
        train_folder(tmp_path / "out").check({})
    assert (target / "precious").read_text() == "x"


def test_what_is_not_in_the_way_is_left_alone(tmp_path):
    out = tmp_path / "out"
    others = ["notes.txt", "models/a", ".model-backup/weights.bin", "data/result.json"]
    for name in others:
        write(out / name)
    a_run(out).clear(*FILES, *FOLDERS)
    assert all((out / name).is_file() for name in others)
    assert not (out / "model").exists()
    assert not (out / "result.json").exists()


def test_a_run_may_be_made_again_and_gone_on_with(tmp_path):
    a_run(tmp_path / "out")
    a_run(tmp_path / "out")
    write(tmp_path / "out/checkpoints/.partial-abc/state-00000.safetensors")
    with train_folder(tmp_path / "out").held({}):
        pass
    assert json.loads((tmp_path / "out" / MARKER).read_text()).keys() == {"train"}


@pytest.mark.parametrize("name", ["model/notes.txt", "checkpoints/mine", "model/more/b.bin"])
def test_what_was_put_among_our_own_files_is_not_ours(tmp_path, name):
    a_run(tmp_path / "out")
    write(tmp_path / "out" / name)
    with pytest.raises(ConfigError, match=name):
        train_folder(tmp_path / "out").check({})


def test_what_another_command_wrote_is_not_ours(tmp_path):
    a_run(tmp_path / "out")
    other = OutFolder(tmp_path / "out", "other", ["result.json"])
    with pytest.raises(ConfigError, match=r"result\.json"):
        other.check({})
    with OutFolder(tmp_path / "out", "compare", ["compare.json"]).held({}):
        pass
    train_folder(tmp_path / "out").check({})


def test_two_commands_do_not_write_at_once(tmp_path):
    with (
        train_folder(tmp_path / "out").held({}),
        pytest.raises(ConfigError, match="another command is writing there"),
        train_folder(tmp_path / "out").held({}),
    ):
        raise AssertionError("it began")


@pytest.mark.parametrize(
    ("out", "read", "said"),
    [
        ("base", "base", "must not be, or lie inside, what X names"),
        ("base/tuned", "base", "must not be, or lie inside, what X names"),
        ("base/../base/x", "base", "must not be, or lie inside, what X names"),
        ("link", "base", "must not be, or lie inside, what X names"),
        ("out", "out/model", "X is read from model in it"),
        ("out", "out/checkpoints/data.jsonl", "X is read from checkpoints in it"),
        ("out", "out/result.json", r"X is read from result\.json in it"),
        ("file", "base", "file is not a directory"),
        ("file/out", "base", "file is not a directory"),
        ("broken", "base", "broken is not a directory"),
    ],
)
def test_what_is_read_and_what_is_written_are_kept_apart(tmp_path, monkeypatch, out, read, said):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "base/config.json")
    write(tmp_path / "file")
    (tmp_path / "link").symlink_to("base")
    (tmp_path / "broken").symlink_to("nowhere")
    a_run(tmp_path / "out")
    write(tmp_path / "out/checkpoints/data.jsonl")
    with pytest.raises(ConfigError, match=said):
        train_folder(tmp_path / out).check({"X": read})
    train_folder(tmp_path / "new").check({"X": read})


def test_the_current_folder_is_written_where_nothing_is_in_the_way(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "base/config.json")
    write(tmp_path / "run.yaml")
    inputs = {"model.name": "base", "FILE": "run.yaml", "data.train": "some/hub-name"}
    with train_folder(tmp_path.relative_to(tmp_path)).held(inputs):
        pass


@pytest.mark.parametrize("kind", ["file", "full", "link", "inside"])
def test_a_new_directory_is_new(tmp_path, kind):
    out = tmp_path / "out"
    write(tmp_path / "base/config.json")
    match kind:
        case "file":
            write(out)
        case "full":
            write(out / "a")
        case "link":
            out.symlink_to("nowhere")
        case "inside":
            out = tmp_path / "base" / "out"
    before = content(tmp_path)
    with pytest.raises(ConfigError, match="--out"):
        check_new(out, {"TUNED": tmp_path / "base"})
    assert content(tmp_path) == before


def test_a_new_directory_may_be_there_if_it_is_empty(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "link").symlink_to("out")
    for name in ("out", "link", "a/b/c"):
        check_new(tmp_path / name, {})


@pytest.fixture
def hft_ray(monkeypatch, capfd, tmp_path):
    """Run a command in this process; return its exit code and what it printed."""
    monkeypatch.setenv("HFT_RAY_HOME", str(tmp_path / "home"))

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["hft-ray", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capfd.readouterr()
        return ended.value.code or 0, out + err

    return run


COMMANDS = {
    "reset": ("reset", "TUNED", "--base", "BASE"),
    "average": ("average", "TUNED", "--base", "BASE", "--alpha", "0.5"),
    "apply": ("apply", "TUNED", "--base", "BASE"),
    "export": ("export", "NAME", "--select", "knee"),
    "compare": ("compare", "a", "b"),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_refuses_before_it_reads_anything(command, hft_ray, tmp_path):
    """The models and sweeps that are named are not there: what is refused first is --out."""
    out = tmp_path / "out"
    write(out / "compare.json")
    before = content(tmp_path)
    code, said = hft_ray(*COMMANDS[command], "--out", out)
    assert code == 2
    assert "--out" in said
    assert "Traceback" not in said
    assert content(tmp_path) == before


def test_train_refuses_the_folder_of_its_model(hft_ray, tiny_file, tiny_models, tmp_path):
    before = content(tmp_path)
    file = tmp_path / "run.yaml"
    file.write_text(yaml.safe_dump(tiny_file))
    for out in (tiny_models["untied"], os.path.join(tiny_models["untied"], "new")):
        code, said = hft_ray("train", file, "--out", out)
        assert code == 2
        assert "--out: must not be, or lie inside, what model.name names" in said
    assert content(tmp_path).keys() - before.keys() <= {"run.yaml", "home"} | {
        name for name in content(tmp_path) if name.startswith("home/")
    }


FILE = "name: s\nmodel: m\ndata: {train: t}\nsearch: {space: {selection.ratio: [0.1, 0.2]}}\n"


@pytest.mark.parametrize("name", ["weights/t0000/final/a", "config.yaml", "front/front.html"])
def test_a_folder_that_is_no_sweeps_is_not_taken_for_one(tmp_path, name):
    config, folder = parse(FILE, "run.yaml"), SweepFolder(tmp_path, "s")
    write(folder.path / name, FILE)
    before = content(tmp_path)
    with pytest.raises(ConfigError, match=f"not the folder of a sweep: it has {name[:5]}"):
        folder.check(config, fresh=False)
    with pytest.raises(ConfigError), folder.held():
        raise AssertionError("it began")
    assert content(tmp_path) == before


def test_the_folder_of_another_command_is_not_taken_for_a_sweeps(tmp_path):
    folder = SweepFolder(tmp_path, "s")
    a_run(folder.path)
    before = content(tmp_path)
    with pytest.raises(ConfigError, match="not the folder of a sweep: it has"):
        folder.mark()
    assert content(tmp_path) == before


def test_a_file_in_the_place_of_a_sweeps_folder_is_told(tmp_path):
    folder = SweepFolder(tmp_path, "s")
    write(folder.path)
    with pytest.raises(ConfigError, match="is not a directory"):
        folder.mark()


def test_a_sweeps_folder_is_known_again(tmp_path):
    config, folder = parse(FILE, "run.yaml"), SweepFolder(tmp_path, "s")
    with folder.held():
        assert not folder.claim(config)
    write(folder.path / "weights/t0000/final/a")
    SweepFolder(tmp_path, "s").check(config, fresh=False)
    # As versions without the marker have left it.
    (folder.path / MARKER).unlink()
    write(folder.study)
    with SweepFolder(tmp_path, "s").held():
        assert SweepFolder(tmp_path, "s").claim(config)
