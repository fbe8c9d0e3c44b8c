import math
import random

import pytest
from evaluation_models import hf_loss, make_pair, sentence, write_jsonl

from hft_ray.config import ConfigError, EvaluationSection
from hft_ray.evaluation import Suite
from hft_ray.evaluation.perplexity import cut


def section(data, **more):
    entry = {"name": "text", "kind": "perplexity", "data": data, **more}
    return EvaluationSection.model_validate({"general": [entry]})


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_equals_transformers_loss(kind, tmp_path):
    model, tokenizer = make_pair(kind)
    rng = random.Random(1)
    texts = [sentence(rng, 3, 18) for _ in range(9)]
    data = write_jsonl(tmp_path / "t.jsonl", [{"text": text} for text in texts])
    score = Suite(section(data), tokenizer).score(model).general["text"]
    ids = [tokenizer(text).input_ids for text in texts]
    assert all(each[0] == 0 for each in ids) == (kind == "llama")
    losses = [hf_loss(model, each) for each in ids]
    counts = [len(each) - 1 for each in ids]
    assert score.items == pytest.approx(losses, rel=1e-5)
    assert score.weights == tuple(counts)
    expected = sum(n * x for n, x in zip(counts, losses, strict=True)) / sum(counts)
    assert score.value == pytest.approx(expected, rel=1e-5)
    assert (score.n, score.metric, score.worst) == (9, "cross_entropy", math.log(320))
    assert not score.higher_is_better


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_long_texts_are_cut_into_windows(kind, tmp_path):
    model, tokenizer = make_pair(kind)
    text = sentence(random.Random(2), 40, 40)
    ids = tokenizer(text).input_ids
    data = write_jsonl(tmp_path / "t.jsonl", [{"text": text}])
    score = Suite(section(data, max_length=16), tokenizer).score(model).general["text"]
    windows = [ids[start : start + 17] for start in range(0, len(ids) - 1, 16)]
    assert len(windows) > 2
    total = sum(hf_loss(model, window) * (len(window) - 1) for window in windows)
    assert score.value == pytest.approx(total / (len(ids) - 1), rel=1e-5)
    assert math.isnan(score.stderr)  # one document: no error can be told


def test_windows_end_where_the_models_positions_do(tmp_path):
    model, tokenizer = make_pair("gpt2")
    data = write_jsonl(tmp_path / "t.jsonl", [{"text": sentence(random.Random(2), 150, 150)}])
    longest = Suite(section(data, max_length=500), tokenizer).score(model)
    shorter = Suite(section(data, max_length=96), tokenizer).score(model)
    assert longest.to_json() == shorter.to_json()


@pytest.mark.parametrize("tokens", [0, 1, 2, 5, 8, 9, 10, 16, 17, 18, 33])
def test_every_token_but_the_first_is_predicted_once(tokens):
    text = list(range(tokens))
    windows = cut(text, 8)
    assert [token for window in windows for token in window[1:]] == text[1:]
    assert all(2 <= len(window) <= 9 for window in windows)


def test_a_text_of_one_token_has_no_weight(tmp_path):
    model, tokenizer = make_pair("gpt2")
    records = [{"text": "the capital of France"}, {"text": "x"}]
    both = Suite(section(write_jsonl(tmp_path / "a.jsonl", records)), tokenizer).score(model)
    one = Suite(section(write_jsonl(tmp_path / "b.jsonl", records[:1])), tokenizer).score(model)
    assert both.general["text"].value == one.general["text"].value
    with pytest.raises(ConfigError, match="no text has a token to predict"):
        Suite(section(write_jsonl(tmp_path / "c.jsonl", records[1:])), tokenizer)


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_of_a_prompt_and_its_answer_the_answer_counts(kind, tmp_path):
    model, tokenizer = make_pair(kind)
    rng = random.Random(3)
    pairs = [(sentence(rng, 3, 9), sentence(rng, 1, 6)) for _ in range(7)]
    records = [{"prompt": prompt, "answer": answer} for prompt, answer in pairs]
    data = write_jsonl(tmp_path / "a.jsonl", records)
    score = Suite(section(data), tokenizer).score(model).general["text"]
    whole = [tokenizer(f"{prompt} {answer}").input_ids for prompt, answer in pairs]
    before = [tokenizer(prompt).input_ids for prompt, _ in pairs]
    counts = [len(all_) - len(own) for all_, own in zip(whole, before, strict=True)]
    # The loss of the whole minus that of the prompt is the answer's.
    losses = [
        hf_loss(model, all_) * (len(all_) - 1) - hf_loss(model, own) * (len(own) - 1)
        for all_, own in zip(whole, before, strict=True)
    ]
    assert score.weights == tuple(counts)
    means = [loss / n for loss, n in zip(losses, counts, strict=True)]
    assert score.items == pytest.approx(means, rel=1e-4)


def test_a_long_prompt_is_cut_from_the_left(tmp_path):
    model, tokenizer = make_pair("gpt2")
    prompt, answer = sentence(random.Random(4), 40, 40), "Paris"
    data = write_jsonl(tmp_path / "a.jsonl", [{"prompt": prompt, "answer": answer}])
    score = Suite(section(data, max_length=16), tokenizer).score(model).general["text"]
    own = len(tokenizer(f"{prompt} {answer}").input_ids) - len(tokenizer(prompt).input_ids)
    ids = tokenizer(f"{prompt} {answer}").input_ids[-17:]
    rest = hf_loss(model, ids[: len(ids) - own]) * (len(ids) - own - 1)
    assert score.value * own == pytest.approx(hf_loss(model, ids) * 16 - rest, rel=1e-4)
