"""``hft-ray evaluate``: finished models, their base, what is kept, and what is refused."""

import json
import math
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from hft_ray.cli.main import app
from hft_ray.config import ConfigError


def invoke(*arguments):
    done = CliRunner().invoke(app, ["evaluate", *map(str, arguments)])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def tuned(tiny_models, tmp_path_factory):
    """The tiny model with other weights."""
    folder = tmp_path_factory.mktemp("tuned") / "model"
    shutil.copytree(tiny_models["untied"], folder)
    tensors = load_file(folder / "model.safetensors")
    generator = torch.Generator().manual_seed(1)
    for tensor in tensors.values():
        tensor += 0.05 * torch.randn(tensor.shape, generator=generator)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.fixture(scope="module")
def file(tiny_file, tmp_path_factory):
    path = tmp_path_factory.mktemp("file") / "run.yaml"
    prompts = tiny_file["evaluation"]["task"][0]["data"]
    evaluation = {
        "task": tiny_file["evaluation"]["task"],
        "general": [
            *tiny_file["evaluation"]["general"],
            {"name": "moved", "kind": "kl", "data": prompts},
        ],
    }
    path.write_text(yaml.safe_dump(tiny_file | {"evaluation": evaluation}))
    return path


def test_the_contracts_json_with_what_was_forgotten(tuned, file, home):
    told = json.loads(invoke(tuned, file, "--json", "--storage", home))
    assert set(told) == {"scores", "forgetting", "retention"}
    assert set(told["scores"]) == {"answers", "texts", "questions", "moved"}
    for score in told["scores"].values():
        assert set(score) == {"value", "stderr", "interval", "n", "metric"}
        low, high = score["interval"]
        assert low <= score["value"] <= high
    assert set(told["forgetting"]) == {"texts", "questions", "moved", "mean"}
    kept = told["retention"]
    assert set(kept) == {"texts", "questions", "moved", "mean"}
    for found in (*told["forgetting"].values(), *kept.values()):
        assert set(found) == {"value", "stderr", "interval"}
    for name in ("texts", "moved"):
        lost = told["forgetting"][name]["value"]
        assert kept[name]["value"] == pytest.approx(math.exp(-lost))
    assert told["forgetting"]["moved"] == {
        key: told["scores"]["moved"][key] for key in ("value", "stderr", "interval")
    }
    assert told["scores"]["moved"]["value"] > 0


def test_files_model_itself_has_no_base(tiny_models, file, home):
    told = json.loads(invoke(tiny_models["untied"], file, "--json", "--storage", home))
    assert set(told) == {"scores"}
    assert told["scores"]["moved"]["value"] == 0


def test_a_base_of_ones_own_turns_it_around(tiny_models, tuned, file, home):
    there = json.loads(invoke(tuned, file, "--json", "--storage", home))
    back = json.loads(
        invoke(tiny_models["untied"], file, "--base", tuned, "--json", "--storage", home)
    )
    for name in ("texts", "questions"):
        one, other = there["forgetting"][name], back["forgetting"][name]
        assert one["value"] == pytest.approx(-other["value"])
        assert one["stderr"] == pytest.approx(other["stderr"])
    assert back["scores"]["moved"]["value"] != there["scores"]["moved"]["value"]


def test_a_table(tuned, file, home, capfd):
    invoke(tuned, file, "--storage", home)
    text = capfd.readouterr().out
    assert "Scores of" in text
    assert "general/questions" in text
    assert "cross_entropy" in text
    assert "lost" in text and "kept" in text
    assert "mean" in text


def test_what_is_scored_is_told_as_its_turn_comes(tuned, file, tmp_path, capfd):
    invoke(tuned, file, "--storage", tmp_path, "--set", "evaluation.general=[]")
    lines = capfd.readouterr().out.splitlines()
    assert lines[0] == "scoring the base model: evaluation 1 of 1, answers"
    assert lines[1] == "scoring the model: evaluation 1 of 1, answers"


def test_equal_weights_are_scored_once(tuned, file, home, tmp_path, monkeypatch):
    first = invoke(tuned, file, "--json", "--storage", home)
    other = tmp_path / "elsewhere"
    shutil.copytree(tuned, other)

    def never(*_):
        raise AssertionError("a model was loaded")

    monkeypatch.setattr("hft_ray.training.evaluate.load_model", never)
    assert invoke(other, file, "--json", "--storage", home) == first


def test_batch_size_and_overrides(tuned, file, home):
    told = json.loads(
        invoke(tuned, file, "--json", "--storage", home, "--set", "evaluation.task.0.limit=2")
    )
    assert told["scores"]["answers"]["n"] == 2
    assert math.isfinite(told["scores"]["texts"]["value"])


def test_what_is_wrong_is_named(tuned, tiny_models, file, home, tmp_path):
    with pytest.raises(ConfigError, match="MODEL: is not a model directory"):
        invoke(tmp_path, file, "--storage", home)
    with pytest.raises(ConfigError, match="BASE: no such file"):
        invoke(tuned, file, "--base", tmp_path / "none.gguf", "--storage", home)
    with pytest.raises(ConfigError, match=r"evaluation\.task\.0\.data: no such file"):
        invoke(tuned, file, "--storage", home, "--set", "evaluation.task.0.data=none.jsonl")
    with pytest.raises(ConfigError, match="names no evaluation"):
        bare = ["--set", "evaluation.task=[]", "--set", "evaluation.general=[]"]
        invoke(tuned, file, "--storage", home, *bare)


def test_all_is_looked_at_before_anything_is_scored(
    tuned, tiny_models, file, home, tmp_path, monkeypatch
):
    def never(*_):
        raise AssertionError("a model was loaded")

    monkeypatch.setattr("hft_ray.training.evaluate.load_model", never)
    alone = tmp_path / "alone"
    shutil.copytree(tuned, alone, ignore=shutil.ignore_patterns("tokenizer*"))
    lost = ["--set", "evaluation.task.0.data=none.jsonl"]
    base = ["--base", tiny_models["untied"]]
    for bad, folders in (("MODEL", [alone, *base]), ("BASE", [tuned, "--base", alone])):
        with pytest.raises(ConfigError) as caught:
            invoke(folders[0], file, *folders[1:], *lost, "--storage", tmp_path)
        told = [str(each) for each in caught.value.problems]
        assert len(told) == 2
        assert f"{bad}: the model directory has no tokenizer" in "".join(told)
        assert "AutoTokenizer.from_pretrained(BASE).save_pretrained(MODEL)" in "".join(told)
        assert "evaluation.task.0.data: no such file" in "".join(told)


def test_a_file_needs_no_more_than_its_evaluations(tuned, tiny_models, file, home, tmp_path):
    content = yaml.safe_load(file.read_text())
    alone = tmp_path / "evaluation.yaml"
    alone.write_text(yaml.safe_dump({"evaluation": content["evaluation"]}))
    base = ["--base", tiny_models["untied"], "--json", "--storage", home]
    precision = ["--set", "training.precision=fp32"]
    told = json.loads(invoke(tuned, alone, *base, *precision))
    assert told == json.loads(invoke(tuned, file, *base))
    # Without a base there is nothing that was lost.
    bare = json.loads(invoke(tuned, alone, "--json", "--storage", home, *precision))
    assert "forgetting" not in bare


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"data": {"trainn": "x"}}, r"data\.trainn: unknown key"),
        ({"data": 7}, "data: must be a mapping"),
        ({"training": {"steps": 0}}, r"training\.steps"),
        ({"evaluations": {}}, "evaluations: unknown key"),
    ],
)
def test_what_else_a_file_says_is_checked_as_ever(content, said, file, home, tmp_path):
    path = tmp_path / "run.yaml"
    evaluation = yaml.safe_load(file.read_text())["evaluation"]
    path.write_text(yaml.safe_dump({"evaluation": evaluation} | content))
    with pytest.raises(ConfigError, match=said):
        invoke("nowhere", path, "--storage", home)


@pytest.mark.soak
@pytest.mark.cluster
def test_torchrun_gives_what_one_process_gives(tuned, file, home, tmp_path):
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    command += ["--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0", "-m", "hft_ray"]
    command += ["evaluate", str(tuned), str(file), "--json", "--storage", str(tmp_path)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=300, cwd=Path(__file__).parents[2]
    )
    assert done.returncode == 0, done.stderr
    alone = invoke(tuned, file, "--json", "--storage", home)
    assert json.loads(done.stdout) == json.loads(alone)
