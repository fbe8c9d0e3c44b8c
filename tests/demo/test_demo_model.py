"""The demo's language model knows its facts, and its script makes such models."""

import json

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from hft_ray.demo import make_model

MODEL = make_model.DATA.parent / "model"


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(MODEL, local_files_only=True)


@pytest.fixture(scope="module")
def model():
    return AutoModelForCausalLM.from_pretrained(MODEL, local_files_only=True).eval()


def test_it_is_small(model):
    assert 0.5e6 < model.num_parameters() < 1.2e6
    assert sum(path.stat().st_size for path in MODEL.iterdir()) < 4e6


def test_it_generates_the_answers(model, tokenizer):
    lines = (make_model.DATA / "general.jsonl").read_text(encoding="utf-8").splitlines()
    asked = [json.loads(line) for line in lines[:100]]
    tokenizer.padding_side = "left"
    prompts = tokenizer([record["prompt"] for record in asked], padding=True, return_tensors="pt")
    made = model.generate(**prompts, max_new_tokens=16, do_sample=False)
    texts = tokenizer.batch_decode(
        made[:, prompts["input_ids"].shape[1] :], skip_special_tokens=True
    )
    right = [text.strip() == each["answer"] for text, each in zip(texts, asked, strict=True)]
    assert sum(right) >= 95


def test_it_knows_the_facts_and_not_the_task(model, tokenizer):
    facts = make_model.read_facts("facts.jsonl")
    task = make_model.read_facts("task_train.jsonl")
    assert make_model.known_share(model, tokenizer, facts) >= 0.97
    assert make_model.known_share(model, tokenizer, task) < 0.1


def test_any_text_survives_the_tokenizer(tokenizer):
    text = "capital of Île-de-France:\n  naïve 北京 +33"
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    assert tokenizer.pad_token_id != tokenizer.eos_token_id


def test_the_chat_template_writes_what_the_model_learned(tokenizer):
    turns = [
        {"role": "user", "content": "capital of France:"},
        {"role": "assistant", "content": "Paris"},
    ]
    assert tokenizer.apply_chat_template(turns, tokenize=False) == "capital of France: Paris<eos>"
    prompt = tokenizer.apply_chat_template(turns[:1], tokenize=False, add_generation_prompt=True)
    assert prompt == "capital of France:"


def test_the_script_learns_and_repeats_itself():
    facts = make_model.read_facts("facts.jsonl")[:16]
    tokenizer = make_model.make_tokenizer([prompt + completion for prompt, completion in facts])
    states = []
    for _ in range(2):
        model = make_model.make_model(tokenizer, seed=1)
        make_model.train(model, tokenizer, facts, steps=40, seed=1, batch_size=16)
        states.append(model.state_dict())
    assert make_model.known_share(model, tokenizer, facts) >= 0.9
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_the_script_makes_the_shipped_tokenizer(tokenizer):
    facts = make_model.read_facts("facts.jsonl")
    questions = [prompt for prompt, _ in make_model.read_facts("task_train.jsonl")]
    texts = [*(prompt + completion for prompt, completion in facts), *questions]
    assert make_model.make_tokenizer(texts).get_vocab() == tokenizer.get_vocab()
