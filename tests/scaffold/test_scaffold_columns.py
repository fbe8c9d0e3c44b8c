"""Columns of any name become records of FILE's formats."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hft_ray.config import ConfigError
from hft_ray.data import Records, convert_all, detect
from hft_ray.scaffold.columns import shape
from hft_ray.scaffold.holdout import hold_out
from hft_ray.scaffold.task_score import choose_evaluation


def records(*items):
    return Records("data.csv", items, None)


@pytest.mark.parametrize(
    ("asked", "answered"),
    [("Question", "Answer"), ("input", "output"), ("source", "target"), ("article", "summary")],
)
@pytest.mark.parametrize("chat", [True, False])
def test_a_request_and_its_answer(asked, answered, chat):
    found = shape(records({asked: "1 + 1?", answered: 2, "id": 7}), chat=chat)
    assert found.kind == "answers"
    if chat:
        turns = [{"role": "user", "content": "1 + 1?"}, {"role": "assistant", "content": "2"}]
        assert found.records == [{"messages": turns}]
        assert found.scored == [{"prompt": turns[:1], "answer": "2"}]
    else:
        assert found.records == [{"prompt": "1 + 1?", "completion": " 2"}]
        assert found.scored == [{"prompt": "1 + 1?", "answer": "2"}]
    convert_all(Records("data.jsonl", found.records, None), detect(found.records[0]))


def test_a_known_format_stays_as_it_is():
    turns = [
        {"role": "user", "content": "hello"},
        {"role": "assistant", "content": "yes?"},
        {"role": "user", "content": "1 + 1?"},
        {"role": "assistant", "content": "2"},
    ]
    found = shape(records({"messages": turns}), chat=True)
    assert found.records == [{"messages": turns}]
    assert found.scored == [{"prompt": turns[:3], "answer": "2"}]


@pytest.mark.parametrize("right", [1, "1", "B", "b", "Lima"])
def test_choices(right):
    record = {"question": "Capital of Peru?", "choices": ["Quito", "Lima"], "answer": right}
    found = shape(records(record), chat=False)
    assert found.kind == "choices"
    assert found.records == [{"prompt": "Capital of Peru?", "completion": " Lima"}]
    assert found.scored == [{**record, "answer": 1}]


def test_choices_as_arc_has_them():
    listed = {"text": ["Quito", "Lima"], "label": ["A", "B"]}
    record = {"question": "Capital of Peru?", "choices": listed, "answerKey": "B", "answer": "B"}
    assert shape(records(record), chat=False).scored[0]["answer"] == 1


def test_pairs_and_texts():
    pair = {"prompt": "a", "chosen": "b", "rejected": "c"}
    assert shape(records(pair), chat=False).kind == "pairs"
    assert shape(records({"body": "a text"}), chat=False).records == [{"text": "a text"}]
    assert shape(records({"anything": "a text"}), chat=False).kind == "texts"


def test_unknown_columns_are_named():
    with pytest.raises(ConfigError, match="rename them to prompt and completion") as error:
        shape(records({"left": "a", "right": "b"}), chat=False)
    assert "left" in str(error.value)


@pytest.mark.parametrize("value", [None, "", "  ", True, ["a"]])
def test_an_empty_cell_is_named(value):
    with pytest.raises(ConfigError, match="answer must be a text that is not empty"):
        shape(
            records({"question": "b", "answer": "x"}, {"question": "a", "answer": value}),
            chat=False,
        )


@given(st.lists(st.integers(0, 40), min_size=4, max_size=500))
def test_no_prompt_is_on_both_sides(prompts):
    trained, held = hold_out(prompts)
    assert sorted(trained + held) == list(range(len(prompts)))
    assert not {prompts[n] for n in trained} & {prompts[n] for n in held}


def test_how_much_is_held_out():
    sizes = {n: len(hold_out(list(range(n)))[1]) for n in (10, 100, 1000, 10_000)}
    assert sizes == {10: 5, 100: 20, 1000: 100, 10_000: 300}


def words(text):
    return len(text.split())


@pytest.mark.parametrize(
    ("kind", "answers", "kind_of_score", "metric"),
    [
        ("answers", ["Lima", "Quito"] * 10, "generation", "exact_match"),
        ("answers", ["so it is " * 20 + "#### 42"] * 10, "generation", "number_match"),
        ("answers", ["it is the case that " * 20] * 10, "generation", "rouge_l"),
        ("answers", ["word " * 600] * 10, "perplexity", None),
        ("choices", ["Lima"], "multiple_choice", None),
        ("pairs", [], "preference", None),
        ("texts", [], "perplexity", None),
    ],
)
def test_the_score_fits_the_answers(kind, answers, kind_of_score, metric):
    found = choose_evaluation(kind, answers, words)
    assert found.settings["kind"] == kind_of_score
    assert found.settings.get("metric") == metric
    assert found.why


def test_a_long_answer_is_not_cut():
    found = choose_evaluation("answers", ["Lima", "San Jose de Costa Rica"], words)
    assert found.settings["max_new_tokens"] == 8
    assert found.new_tokens == 8
