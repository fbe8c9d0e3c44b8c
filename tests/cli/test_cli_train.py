"""``hft-ray train``, alone and under torchrun, as users start it."""

import json
import os
import subprocess
import sys

import pytest
import yaml
from matplotlib.image import imread
from transformers import AutoModelForCausalLM, AutoTokenizer

from hft_ray.out_folder import MARKER

CHANGES = {
    "selection": {"ratio": 0.5, "reselect": 5},
    "cluster": {"cpus_per_worker": 1},
    "search": {"space": {"selection.ratio": [0.25, 1.0]}},
}


def arguments(folder, file, *options):
    """Return those of ``hft-ray`` for 10 steps of ZeRO-3 on ``file``."""
    path = folder / "run.yaml"
    path.write_text(yaml.safe_dump(file | CHANGES))
    settings = ["--set", "training.steps=10", "--set", "training.zero_stage=3", *options]
    return ["train", str(path), "--out", str(folder / "out"), *settings]


def start(folder, file, launcher, *options):
    """Run ``hft-ray train``; return the finished process."""
    return subprocess.run(
        [*launcher, "-m", "hft_ray", *arguments(folder, file, *options)],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "HFT_RAY_HOME": str(folder / "home")},
        timeout=300,
        check=False,
    )


@pytest.fixture
def train(jobs, tiny_file, tmp_path):
    """Run ``hft-ray train`` without the time that its imports take."""

    def run(*options):
        home = str(tmp_path / "home")
        return jobs.command(tmp_path, *arguments(tmp_path, tiny_file, *options), HFT_RAY_HOME=home)

    return run


@pytest.fixture(scope="module")
def alone(tiny_file, tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone")
    done = start(folder, tiny_file, [sys.executable], "--json")
    assert done.returncode == 0, done.stderr[-4000:]
    return folder, done


@pytest.fixture(scope="module")
def under_torchrun(tiny_file, tmp_path_factory):
    folder = tmp_path_factory.mktemp("torchrun")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    done = start(folder, tiny_file, [*torchrun, "--nproc-per-node", "2"])
    assert done.returncode == 0, done.stderr[-4000:]
    return folder, done


def result(run):
    return json.loads((run[0] / "out" / "result.json").read_text())


def test_the_result_is_what_the_contract_says(alone):
    found = result(alone)
    assert set(found) >= {"values", "base", "steps", "seconds", "selection", "touched_fraction"}
    assert found["steps"] == 10
    assert [(each["round"], each["step"]) for each in found["selection"]] == [(0, 0), (1, 5)]
    for each in found["selection"]:
        assert len(each["hash"]) == 64
        assert set(each["fractions"]) == {"matrices", "block_parameters", "model_parameters"}
        assert each["fractions"]["matrices"] == 0.5
    assert {"task/score", "general/score", "forgetting/mean"} <= set(found["values"])
    assert {"task/score", "general/score"} <= set(found["base"])


def test_json_is_all_that_is_printed(alone):
    folder, done = alone
    assert json.loads(done.stdout) == result(alone)
    assert done.stderr == ""
    assert (folder / "out" / "train-0.log").is_file()
    assert imread(folder / "out" / "selection.png").shape[:2] == (900, 1260)


def test_torchrun_gives_the_same_result(alone, under_torchrun):
    one, two = result(alone), result(under_torchrun)
    for ours, theirs in zip(one["selection"], two["selection"], strict=True):
        assert theirs.pop("distances") == pytest.approx(ours.pop("distances"), rel=1e-3)
        assert theirs == ours
    assert two["steps"] == one["steps"]
    for name in ("train/loss", "general/texts", "general/questions", "task/score"):
        assert two["values"][name] == pytest.approx(one["values"][name], rel=1e-4)
    assert two["base"] == pytest.approx(one["base"], rel=1e-6)


def test_one_rank_alone_tells_how_it_goes(under_torchrun):
    folder, done = under_torchrun
    lines = done.stdout.splitlines()
    scored = [line for line in lines if line.startswith("scoring the base model: evaluation ")]
    assert lines[: len(scored)] == scored
    assert scored[0].endswith(f"1 of {len(scored)}, answers")
    lines = lines[len(scored) :]
    assert [line.split()[:2] for line in lines[:10]] == [["step", str(n + 1)] for n in range(10)]
    assert "forgetting/mean" in lines[9]
    assert len(lines) == 11
    assert lines[10] == f"model and result.json are in {folder / 'out'}"
    assert (folder / "out" / "train-1.log").is_file()


def test_the_model_loads(under_torchrun):
    folder, _ = under_torchrun
    model = AutoModelForCausalLM.from_pretrained(folder / "out" / "model")
    tokenizer = AutoTokenizer.from_pretrained(folder / "out" / "model")
    ids = tokenizer("the capital of France", return_tensors="pt").input_ids
    assert model(ids).logits.shape == (1, ids.shape[1], 320)


def test_a_diverged_run_fails_with_its_reason(train, tmp_path):
    # Weights that large overflow in the next forward pass.
    wrong = ["training.learning_rate=1e30", "training.zero_stage=0", "selection.reselect=never"]
    options = [part for setting in wrong for part in ("--set", setting)]
    # Of an earlier run: it must not pass for this one's.
    (tmp_path / "out" / "model").mkdir(parents=True)
    (tmp_path / "out" / "result.json").write_text("{}")
    (tmp_path / "out" / MARKER).write_text('{"train": ["result.json"]}')
    done = train(*options)
    assert done.returncode == 1
    assert "failed: the loss became nan" in done.stdout
    assert "try a lower learning rate" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    assert not (tmp_path / "out" / "result.json").exists()
    assert not (tmp_path / "out" / "model").exists()


def test_a_score_of_one_item_is_json_too(train, tmp_path):
    """Its standard error is not known, which JSON has no number for."""
    options = ["--json", "--set", "training.zero_stage=0", "--set", "evaluation.general=[]"]
    options += ["--set", "evaluation.task.0.limit=1", "--set", "selection.reselect=never"]
    done = train(*options)
    assert done.returncode == 0, done.stderr[-4000:]
    for text in (done.stdout, (tmp_path / "out" / "result.json").read_text()):
        assert "stderr/task/answers" in json.loads(text, parse_constant=pytest.fail)["values"]
    # The same command writes there again.
    before = (tmp_path / "out" / "result.json").stat().st_mtime_ns
    assert train(*options).returncode == 0
    assert (tmp_path / "out" / "result.json").stat().st_mtime_ns > before


def test_a_full_disk_ends_with_a_sentence(tiny_file, tmp_path):
    """A process that may write files of 64 KiB at most, as far as the error goes."""
    limit = ["bash", "-c", 'ulimit -f 64; exec "$0" "$@"', sys.executable]
    options = ["--set", "training.zero_stage=0", "--set", "evaluation={}"]
    done = start(tmp_path, tiny_file, limit, *options)
    assert done.returncode == 1
    said = done.stdout + done.stderr
    assert "failed: the disk is full" in said
    assert "start the command again" in said
    assert "Traceback" not in said
    assert not (tmp_path / "out" / "model").exists()
