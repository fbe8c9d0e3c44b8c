"""TRACE's folder: what is missing or malformed in it is refused before training."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from hft_ray.config import Config, ConfigError
from hft_ray.config.load import load
from hft_ray.evaluation import load_items
from hft_ray.evaluation.text_metrics import compare, extracted
from hft_ray.ranks import Ranks
from hft_ray.training import Workspace, check

ROOT = Path(__file__).parents[2]
MINIATURE = ROOT / "hft_ray" / "demo" / "data" / "trace"


@pytest.fixture
def folder(tmp_path):
    return Path(shutil.copytree(MINIATURE, tmp_path / "trace"))


def told(tiny_file, folder):
    """Return the problems that the check finds."""
    # Its answers are longer than the tiny model has positions for.
    model = Path(shutil.copytree(tiny_file["model"], folder.parent / "model", dirs_exist_ok=True))
    settings = json.loads((model / "config.json").read_text(encoding="utf-8"))
    settings["max_position_embeddings"] = 2048
    (model / "config.json").write_text(json.dumps(settings), encoding="utf-8")
    tasks = {"benchmark": "trace", "folder": str(folder)}
    file = {key: tiny_file[key] for key in ("name", "model", "training")}
    file |= {
        "model": str(model),
        "tasks": tasks,
        "method": "continual",
        "data": {"max_length": 512},
    }
    workspace = Workspace(folder.parent / "root", Ranks(), torch.device("cpu"))
    try:
        check(Config.model_validate(file), workspace, "trace.yaml")
    except ConfigError as error:
        return [str(problem) for problem in error.problems]
    return []


def test_the_miniature_has_the_published_layout_and_no_problem(tiny_file, folder):
    assert told(tiny_file, folder) == []
    for task in folder.iterdir():
        assert {path.name for path in task.iterdir()} == {"train.json", "eval.json", "test.json"}
        for path in task.iterdir():
            records = json.loads(path.read_text(encoding="utf-8"))
            assert all(set(record) == {"prompt", "answer"} for record in records)


def test_everything_missing_and_malformed_is_told_at_once(tiny_file, folder):
    (folder / "Py150" / "train.json").unlink()
    (folder / "20Minuten" / "test.json").unlink()
    (folder / "FOMC" / "train.json").write_text('[{"prompt": "a", "answer": "b"}, {"prompt": "c"}]')
    (folder / "C-STANCE" / "test.json").write_text('[{"prompt": "a"')
    problems = told(tiny_file, folder)
    assert len(problems) == 4
    for part in (
        "tasks.3.data.train: no such file",
        "FOMC/train.json, record 2",
        "tasks.7.evaluation.0.data: no such file",
        "C-STANCE/test.json:1: is not valid JSON",
    ):
        assert any(part in problem for problem in problems), part


def test_answers_are_scored_as_by_trace():
    """ScienceQA by its letter, whatever the reason; 20Minuten against its whole prompt."""
    config = load(ROOT / "search_spaces" / "trace_llama2_7b.yaml")
    scored = {each.name: each for each in config.scored.task}

    def score(task, text):
        evaluation = scored[task]
        item = load_items(evaluation, task)[0]
        return compare(
            evaluation.metric, extracted(evaluation.extract, text), item.answers, item.source
        )

    assert score("ScienceQA", "B\nBecause of something else.") == 1
    assert score("ScienceQA", " A") == 0
    assert score("ScienceQA", "") == 0
    assert score("20Minuten", "Die Gemeinde baut eine Schule.") > score("20Minuten", "Katze.")
    assert score("NumGLUE-cm", "64") == 1
    assert score("MeetingBank", "The library was approved.") == pytest.approx(1)
