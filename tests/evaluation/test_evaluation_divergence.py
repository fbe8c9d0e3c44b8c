"""Forward KL against the base: exact, a lower bound when shortened, kept, the same however run."""

import math
import random

import pytest
import torch
from evaluation_models import make_pair, moved, sentence, write_jsonl

from hft_ray.config import ConfigError, EvaluationSection
from hft_ray.evaluation import BaseScores, Scores, Suite, forgetting

VOCABULARY = 320


def section(folder, records=None, batch_size=4, **settings):
    rng = random.Random(4)
    records = records or [
        {"prompt": sentence(rng, 1, 9), "answer": sentence(rng, 1, 5)} for _ in range(9)
    ]
    data = write_jsonl(folder / "records.jsonl", records)
    entry = {"name": "kl", "kind": "kl", "data": data, "top": VOCABULARY} | settings
    return EvaluationSection.model_validate({"general": [entry], "batch_size": batch_size})


def direct(base, tuned, ids, first, last):
    """torch's own KL over the distributions that predict the tokens [first, last)."""
    tokens = torch.tensor([ids])
    with torch.no_grad():
        p, q = (
            model(tokens).logits[0, first - 1 : last - 1].double().log_softmax(-1)
            for model in (base, tuned)
        )
    return float(torch.nn.functional.kl_div(q, p, reduction="sum", log_target=True))


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
@pytest.mark.parametrize("tokens", ["answer", "prompt", "all"])
def test_equals_torchs_divergence_over_the_whole_vocabulary(kind, tokens, tmp_path):
    base, tokenizer = make_pair(kind)
    tuned = moved(base)
    rng = random.Random(4)
    pairs = [(sentence(rng, 1, 9), sentence(rng, 1, 5)) for _ in range(9)]
    total, count = 0.0, 0
    for prompt, answer in pairs:
        whole = tokenizer(f"{prompt} {answer}").input_ids
        border = len(tokenizer(prompt).input_ids)
        first = max(1, border) if tokens == "answer" else 1
        last = border if tokens == "prompt" else len(whole)
        total += direct(base, tuned, whole, first, last)
        count += last - first
    suite = Suite(section(tmp_path, tokens=tokens), tokenizer)
    before = suite.score(base)
    assert before.general["kl"].value == 0.0
    score = suite.score(tuned, base=before).general["kl"]
    assert score.value == pytest.approx(total / count, rel=1e-5)
    assert sum(score.weights) == count
    assert score.stderr > 0
    assert forgetting(before, Scores({}, {"kl": score}))["kl"].value == score.value
    assert (score.higher_is_better, score.worst) == (False, math.log(VOCABULARY))
    again = suite.score(base, base=before).general["kl"]
    assert again.value == pytest.approx(0.0, abs=1e-9)


def test_batch_size_changes_nothing(tmp_path):
    base, tokenizer = make_pair("llama")
    tuned = moved(base)
    found = []
    for batch_size in (1, 3, 16):
        suite = Suite(section(tmp_path, batch_size=batch_size), tokenizer)
        found.append(suite.score(tuned, base=suite.score(base)).general["kl"])
    for each in found[1:]:
        assert each.items == pytest.approx(found[0].items, rel=1e-4, abs=1e-7)
        assert each.value == pytest.approx(found[0].value, rel=1e-5)


def test_joined_tokens_give_a_lower_bound_that_rises_to_the_whole(tmp_path):
    base, tokenizer = make_pair("llama")
    tuned = moved(base)
    values = []
    for top in (1, 4, 32, VOCABULARY, 10_000):
        suite = Suite(section(tmp_path, top=top), tokenizer)
        values.append(suite.score(tuned, base=suite.score(base)).general["kl"].value)
    assert values == sorted(values)
    assert values[0] < 0.9 * values[3]
    assert values[3] == values[4]


def test_the_base_is_kept_and_compared_with_by_another_process(tmp_path):
    base, tokenizer = make_pair("llama")
    tuned = moved(base)
    asked = section(tmp_path, top=16)
    suite = Suite(asked, tokenizer)
    store = BaseScores(tmp_path / "cache")
    key = store.key("weights", asked, "float32")
    scores = suite.score(base)
    store.put(key, scores)
    read = BaseScores(tmp_path / "cache").get(key)
    expected = suite.score(tuned, base=scores)
    assert Suite(asked, tokenizer).score(tuned, base=read) == expected
    assert expected.references == {}
    (tmp_path / "cache" / "base_scores" / f"{key}.kl.safetensors").unlink()
    assert store.get(key) is None, "half of it is nothing"


def test_the_key_of_a_compared_model_knows_its_base(tmp_path):
    asked = section(tmp_path)
    key = BaseScores(tmp_path).key
    assert key("w", asked, "float32", "one") != key("w", asked, "float32", "two")
    plain = EvaluationSection.model_validate(
        {"general": [{"name": "a", "kind": "perplexity", "data": asked.general[0].data}]}
    )
    assert key("w", plain, "float32", "one") == key("w", plain, "float32", "two")


def test_plain_texts_are_compared_whole_and_cut_from_the_left(tmp_path):
    base, tokenizer = make_pair("llama")
    tuned = moved(base)
    text = " ".join(["gold has symbol Au"] * 6)
    asked = section(tmp_path, [{"text": text}], max_length=10)
    suite = Suite(asked, tokenizer)
    score = suite.score(tuned, base=suite.score(base)).general["kl"]
    ids = tokenizer(text).input_ids[-11:]
    assert score.weights == (10,)
    assert score.value == pytest.approx(direct(base, tuned, ids, 1, 11) / 10, rel=1e-5)


def test_other_tokens_are_refused(tmp_path):
    base, tokenizer = make_pair("llama")
    scores = Suite(section(tmp_path), tokenizer).score(base)
    other = Suite(section(tmp_path, tokens="prompt"), tokenizer)
    with pytest.raises(ConfigError, match=r"evaluation\.general\.0: the base reads other tokens"):
        other.score(base, base=scores)


def test_what_cannot_be_compared_is_refused(tmp_path):
    model, tokenizer = make_pair("gpt2")
    with pytest.raises(ConfigError, match=r"general\.0\.data: no record has a token to compare"):
        Suite(section(tmp_path, [{"text": "a"}]), tokenizer)
    long = Suite(section(tmp_path, [{"text": "gold " * 200}]), tokenizer)
    with pytest.raises(ConfigError, match=r"max_length: is more than the 96 positions"):
        long.score(model)
