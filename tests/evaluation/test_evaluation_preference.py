"""Preference evaluations: whose answer is likelier, and whose has gained since the base."""

import json
import math

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from hft_ray.config import ConfigError, EvaluationSection
from hft_ray.evaluation import BaseScores, Suite, metric_names, worst_values

PAIRS = [
    {"prompt": "the capital of France", "chosen": " is Paris", "rejected": " lies in winter"},
    {"prompt": "rivers run", "chosen": " down to seas", "rejected": " that no ship"},
    {"prompt": "gold has symbol", "chosen": " Au", "rejected": " Paris and Rome"},
]
METRICS = ("reward_accuracy", "reward_margin", "logprob_accuracy")


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("pairs") / "pairs.jsonl"
    path.write_text("".join(json.dumps(pair) + "\n" for pair in PAIRS))
    return str(path)


@pytest.fixture(scope="module")
def base(tiny_models):
    return AutoModelForCausalLM.from_pretrained(tiny_models["untied"], dtype=torch.float32)


@pytest.fixture(scope="module")
def tuned(tiny_models):
    model = AutoModelForCausalLM.from_pretrained(tiny_models["untied"], dtype=torch.float32)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter *= 1.1
    return model


@pytest.fixture(scope="module")
def tokenizer(tiny_models):
    return AutoTokenizer.from_pretrained(tiny_models["untied"])


def section(file, **more):
    entries = [
        {"name": metric, "kind": "preference", "data": file, "metric": metric, **more}
        for metric in METRICS
    ]
    return EvaluationSection.model_validate({"task": entries, "batch_size": 2})


@torch.no_grad()
def logprob(model, tokenizer, prompt, answer):
    """Return log p(answer | prompt), one token after the other."""
    ids = tokenizer(prompt + answer)["input_ids"] + [tokenizer.eos_token_id]
    first = len(tokenizer(prompt)["input_ids"])
    logprobs = model(torch.tensor([ids])).logits[0].log_softmax(-1)
    return sum(float(logprobs[at - 1, ids[at]]) for at in range(first, len(ids))), len(ids) - first


@pytest.mark.parametrize("normalize", [False, True])
def test_scores_are_those_of_the_definition(file, base, tuned, tokenizer, normalize):
    suite = Suite(section(file, normalize=normalize), tokenizer)
    before = suite.score(base)
    after = suite.score(tuned, base=before)
    margins, likelier = [], []
    for pair in PAIRS:
        (won, won_length), (lost, lost_length), (won_base, _), (lost_base, _) = (
            logprob(model, tokenizer, pair["prompt"], pair[key])
            for model in (tuned, base)
            for key in ("chosen", "rejected")
        )
        one, other = (won_length, lost_length) if normalize else (1, 1)
        margins.append((won - won_base) / one - (lost - lost_base) / other)
        likelier.append(float(won / one > lost / other))
    assert after.task["reward_margin"].items == pytest.approx(margins, abs=1e-4)
    assert list(after.task["reward_accuracy"].items) == [float(each > 0) for each in margins]
    assert list(after.task["logprob_accuracy"].items) == likelier
    assert after.task["reward_margin"].stderr > 0


def test_the_base_has_one_half_and_no_margin(file, base, tokenizer):
    suite = Suite(section(file), tokenizer)
    scores = suite.score(base)
    assert scores.task["reward_accuracy"].value == 0.5
    assert scores.task["reward_margin"].value == 0.0
    again = suite.score(base, base=scores)
    assert again.task["reward_accuracy"].value == 0.5
    assert {name: worst_values(scores)[f"task/{name}"] for name in METRICS} == dict.fromkeys(
        METRICS, 0.0
    )
    assert "task/reward_margin" in metric_names(section(file))


def test_stored_scores_of_the_base_serve_as_reference(file, base, tuned, tokenizer, tmp_path):
    suite, store = Suite(section(file), tokenizer), BaseScores(tmp_path)
    before = suite.score(base)
    key = store.key("weights", section(file), "float32")
    store.put(key, before)
    kept = store.get(key)
    assert suite.score(tuned, base=kept) == suite.score(tuned, base=before)
    # What a tuned model scores depends on the base.
    assert store.key("w", section(file), "float32", key) != store.key("w", section(file), "float32")


def test_an_answer_that_is_cut_away_is_refused(file, tokenizer):
    with pytest.raises(ConfigError, match="answers without a token"):
        Suite(section(file, max_length=8), tokenizer)


def test_outputs_that_are_no_numbers_are_wrong(file, base, tokenizer):
    suite = Suite(section(file), tokenizer)
    before = suite.score(base)
    broken = AutoModelForCausalLM.from_config(base.config)
    with torch.no_grad():
        broken.lm_head.weight.fill_(math.nan)
    assert suite.score(broken, base=before).task["reward_accuracy"].value == 0.0
