import json

import pytest
from evaluation_models import make_pair, make_section, with_batch_size

from hft_ray.config import ConfigError
from hft_ray.evaluation import BaseScores, Suite


@pytest.fixture
def scored(tmp_path):
    model, tokenizer = make_pair("llama")
    section = make_section(tmp_path, model, tokenizer)
    return section, Suite(section, tokenizer).score(model)


def test_what_is_put_is_got_by_another_process(scored, tmp_path):
    section, scores = scored
    store = BaseScores(tmp_path / "cache")
    key = store.key("weights", section, "float32")
    assert store.get(key) is None
    store.put(key, scores)
    assert BaseScores(tmp_path / "cache").get(key) == scores
    files = list((tmp_path / "cache" / "base_scores").iterdir())
    assert sorted(file.name for file in files) == [f"{key}.json", f"{key}.moved.safetensors"]
    assert json.loads(min(files).read_text())["task"]["prompts"]["n"] == 9


def test_the_key_is_what_scores_depend_on(scored, tmp_path):
    section, _ = scored
    key = BaseScores(tmp_path).key
    first = key("weights", section, "float32")
    assert key("weights", with_batch_size(section, 1), "float32") == first
    assert key("weights", section.model_copy(update={"every": 5}), "float32") == first
    assert key("other", section, "float32") != first
    assert key("weights", section, "bfloat16") != first
    longer = section.task[0].model_copy(update={"max_new_tokens": 9})
    assert key("weights", section.model_copy(update={"task": [longer]}), "float32") != first


def test_the_key_knows_data_by_content(scored, tmp_path):
    section = scored[0].model_copy(update={"task": scored[0].task[:1], "general": []})
    key = BaseScores(tmp_path).key
    first = key("weights", section, "float32")
    data = tmp_path / "prompts.jsonl"
    moved = data.rename(tmp_path / "moved.jsonl")
    with pytest.raises(ConfigError, match=r"evaluation\.task\.0\.data: no such file"):
        key("weights", section, "float32")
    entry = section.task[0].model_copy(update={"data": str(moved)})
    assert key("weights", section.model_copy(update={"task": [entry]}), "float32") == first
    data.write_text(moved.read_text() + '{"prompt": "x", "answer": "y"}\n')
    assert key("weights", section, "float32") != first
