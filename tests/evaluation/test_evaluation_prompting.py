"""What the model is shown: solved examples and the chat template."""

import pytest
from evaluation_models import greedy, make_pair, make_tokenizer, write_jsonl

from hft_ray.config import ConfigError, EvaluationSection
from hft_ray.evaluation import Suite
from hft_ray.evaluation.prompting import encode_answered, render_prompt, show
from hft_ray.evaluation.suite import make_scorer
from hft_ray.ranks import Ranks

SHOTS = [("What is 1?", "one"), ("Say two:\n", "two")]


def test_plain_text_is_shown_as_lm_eval_shows_it():
    assert show("And 3?", SHOTS, chat=False) == "What is 1? one\n\nSay two:\ntwo\n\nAnd 3?"
    assert show("And 3?", [], chat=False) == "And 3?"


def test_chat_shows_turns():
    shown = show("And 3?", SHOTS[:1], chat=True)
    text = render_prompt(make_tokenizer(bos=True), shown, "x")
    assert text == "<|user|>What is 1?\n<|assistant|>one\n<|user|>And 3?\n<|assistant|>"


def test_a_dialogue_among_texts_makes_a_dialogue_of_all():
    turns = ({"role": "system", "content": "Be brief."}, {"role": "user", "content": "And 3?"})
    roles = [turn["role"] for turn in show(turns, SHOTS[:1], chat=False)]
    assert roles == ["user", "assistant", "system", "user"]


def section(folder, **settings):
    records = [
        {"prompt": "the capital of France is", "answer": "Paris"},
        {"prompt": "gold has symbol", "answer": "Au"},
    ]
    data = write_jsonl(folder / "prompts.jsonl", records)
    entry = {"name": "e", "kind": "generation", "data": data, "max_new_tokens": 5}
    return EvaluationSection.model_validate({"task": [entry | settings]})


@pytest.mark.parametrize("chat", [False, True])
def test_the_model_continues_what_is_shown(chat, tmp_path):
    model, tokenizer = make_pair("llama")
    shown = show("gold has symbol", [("the capital of France is", "Paris")], chat)
    ids = tokenizer(render_prompt(tokenizer, shown, "x")).input_ids
    own = tokenizer.decode(greedy(model, ids, 5)).partition("\n")[0].strip()
    assert own
    shown_once = section(tmp_path, shots=1, chat=chat, extract="(?s)(.*)")
    assert [text.strip() for text in continuations(shown_once, model, tokenizer)] == [own]
    assert Suite(shown_once, tokenizer).score(model).task["e"].n == 1


def continuations(section, model, tokenizer):
    scorer = make_scorer(section.task[0], tokenizer, "evaluation.task[0]")
    return scorer.continuations(model, 1, Ranks())


def test_the_extracted_answer_and_the_metric_are_what_is_scored(tmp_path):
    model, tokenizer = make_pair("llama")
    letter = continuations(section(tmp_path), model, tokenizer)[0].strip()[0]
    data = write_jsonl(
        tmp_path / "one.jsonl", [{"prompt": "the capital of France is", "answer": letter}]
    )
    scored = section(tmp_path, data=data, extract=r"\S")
    assert Suite(scored, tokenizer).score(model).task["e"].value == 1.0
    plain = section(tmp_path, data=data)
    assert Suite(plain, tokenizer).score(model).task["e"].value == 0.0
    similar = Suite(section(tmp_path, data=data, metric="edit_similarity"), tokenizer)
    score = similar.score(model).task["e"]
    assert score.metric == "edit_similarity"
    assert 0 < score.value < 1


def test_a_missing_chat_template_is_told(tmp_path):
    tokenizer = make_tokenizer(bos=True)
    tokenizer.chat_template = None
    with pytest.raises(ConfigError, match="no chat template"):
        Suite(section(tmp_path, chat=True), tokenizer)


@pytest.mark.parametrize("choice", ["<b>", "<thin>", "Au"])
def test_an_answer_may_begin_as_the_mark_that_the_header_ends_with(choice):
    tokenizer = make_tokenizer(bos=True)
    tokenizer.chat_template = (
        "{% for m in messages %}[{{ m.role }}] {{ m.content }}</s>{% endfor %}"
        "{% if add_generation_prompt %}[assistant] <think>{% endif %}"
    )
    turns = ({"role": "user", "content": "gold"},)
    tokens, before = encode_answered(tokenizer, turns, choice, "x")
    prompt, _ = encode_answered(tokenizer, turns, "zinc", "x")
    assert tokens[:before] == prompt[:before]
    assert tokenizer.decode(tokens[before:]) == choice
