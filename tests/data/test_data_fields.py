"""Every field of a record is used, harmless, or refused by name, in the ways that tools write."""

import json
from typing import get_args

import pytest

from hft_ray.config import ConfigError, Data
from hft_ray.config.sections.data import RecordFormat
from hft_ray.config.sections.evaluation import EVALUATIONS
from hft_ray.data import (
    Dialogue,
    DialoguePair,
    Text,
    TextPair,
    convert,
    convert_pair,
    detect,
    prepare,
    prepare_pairs,
    read_examples,
)
from hft_ray.data.fields import USED
from hft_ray.data.formats import FIELDS

USER = {"role": "user", "content": "Hi"}
ANSWER = {"role": "assistant", "content": "Hello"}
HUMAN, GPT = {"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}
CALL = {"function": {"name": "f", "arguments": {"x": 1}}}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {}}}


def test_every_format_and_kind_of_evaluation_has_its_fields():
    assert FIELDS.keys() == set(get_args(RecordFormat))
    assert USED.keys() == {*FIELDS, "preference", *EVALUATIONS} - {"lm_eval"}


def dialogue(record):
    made = convert(record, detect(record), "t.jsonl:1")
    assert isinstance(made, Dialogue)
    return made


def turns(record):
    """Return role, content and whether it is trained, of every turn."""
    return [(each.role, each.content, each.trained) for each in dialogue(record).messages]


DIALOGUE = [("user", "Hi", False), ("assistant", "Hello", True)]
WITH_SYSTEM = [("system", "Be brief", False), *DIALOGUE]


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ({"messages": [USER, ANSWER], "system": "Be brief"}, WITH_SYSTEM),
        ({"conversations": [HUMAN, GPT], "system": "Be brief"}, WITH_SYSTEM),
        ({"conversations": [HUMAN, GPT], "system_prompt": "Be brief"}, WITH_SYSTEM),
        ({"conversations": [HUMAN, GPT], "system": ""}, DIALOGUE),
        ({"conversations": [USER, ANSWER]}, DIALOGUE),
        ({"conversations": [{"role": "human", "value": "Hi"}, ANSWER]}, DIALOGUE),
        ({"messages": [USER, ANSWER], "prompt": "Hi", "prompt_id": "7"}, DIALOGUE),
        ({"prompt": [USER], "completion": [ANSWER], "system": "Be brief"}, WITH_SYSTEM),
        (
            {"instruction": "Hi", "input": "", "output": "Hello", "system": "Be brief"},
            WITH_SYSTEM,
        ),
        (
            {"instruction": "a", "input": "b", "output": "Hello", "history": [["Hi", "Hello"]]},
            [*DIALOGUE, ("user", "a\nb", False), ("assistant", "Hello", True)],
        ),
        (
            {
                "messages": [
                    {"role": "developer", "content": "Be brief"},
                    {"role": "user", "content": [{"type": "text", "text": "H"}, "i"]},
                    ANSWER,
                ]
            },
            [("developer", "Be brief", False), *DIALOGUE],
        ),
    ],
)
def test_turns_of_a_record(record, expected):
    assert turns(record) == expected


@pytest.mark.parametrize("flag", ["weight", "train", "training", "loss"])
@pytest.mark.parametrize("value", [0, 0.0, False])
def test_a_turn_that_is_not_to_be_trained(flag, value):
    record = {"messages": [USER, {**ANSWER, flag: value}, {**USER, flag: 0}, {**ANSWER, flag: 1}]}
    assert [trained for _, _, trained in turns(record)] == [False, False, False, True]


@pytest.mark.parametrize(
    "messages",
    [
        [USER, {"role": "assistant", "content": None, "tool_calls": [{**CALL, "id": "c1"}]}],
        [
            USER,
            {
                "role": "assistant",
                "tool_calls": [{"id": "c1", "function": {"name": "f", "arguments": '{"x": 1}'}}],
            },
        ],
        [USER, {"role": "assistant", "function_call": {"name": "f", "arguments": '{"x": 1}'}}],
        [HUMAN, {"from": "function_call", "value": '{"name": "f", "arguments": {"x": 1}}'}],
    ],
)
@pytest.mark.parametrize(
    "tools",
    [
        {"tools": [TOOL]},
        {"tools": json.dumps([TOOL])},
        {"tools": json.dumps([TOOL["function"]])},
        {"functions": [TOOL["function"]]},
    ],
)
def test_tools_and_their_calls(messages, tools):
    results = [
        {"role": "tool", "tool_call_id": "c1", "name": "f", "content": "2"},
        {"from": "observation", "value": "2"},
        {"role": "function", "name": "f", "content": "2"},
    ]
    made = dialogue({"messages": [*messages, *results, ANSWER], **tools})
    assert made.arguments.tools == (TOOL,)
    (call,) = made.messages[1].calls
    assert call["function"] == {"name": "f", "arguments": {"x": 1}}
    assert (made.messages[1].content, made.messages[1].trained) == ("", True)
    assert [each.role for each in made.messages[2:5]] == ["tool"] * 3
    assert made.messages[2].labels == {"tool_call_id": "c1", "name": "f"}


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning", "thinking"])
def test_reasoning(name):
    made = dialogue({"messages": [USER, {**ANSWER, name: "Greet."}]})
    assert made.messages[1].reasoning == "Greet."


WRONG = [
    ({"messages": [USER, {**ANSWER, "weight": 0.5}]}, r"messages\[1\]\.weight must be 0 or 1"),
    ({"messages": [{**USER, "train": True}, ANSWER]}, "only an assistant's turns are"),
    ({"messages": [USER, {**ANSWER, "thinking": 3}]}, r"messages\[1\]\.thinking must be a string"),
    ({"messages": [USER, {**ANSWER, "tool_calls": [3]}]}, "a tool call must be"),
    ({"messages": [USER, {**ANSWER, "tool_calls": 3}]}, "a tool call must be"),
    ({"messages": [USER, {"role": "function_call", "content": "f(1)"}]}, "not valid JSON"),
    ({"messages": [USER, ANSWER], "tools": "{"}, "field 'tools' is a string that is not valid"),
    ({"messages": [USER, ANSWER], "tools": 3}, "field 'tools' must be a list of functions"),
    ({"messages": [USER, ANSWER], "chat_template_kwargs": {"tokenize": 1}}, "cannot set tokenize"),
    ({"messages": [USER, ANSWER], "prompt": "Bye"}, "'prompt' is not the text of one"),
    ({"messages": [{"role": "system", "content": "a"}, ANSWER], "system": "b"}, "another one in"),
    ({"messages": [{**USER, "content": [{"type": "image_url"}]}, ANSWER]}, "type 'image_url'"),
    ({"prompt": "a", "completion": "b", "system": "c"}, "'system' is for dialogues"),
    ({"instruction": "a", "output": "b", "text": "c"}, "'text' is not the record's"),
    ({"instruction": "a", "output": "b", "history": [["c"]]}, "must be a list of pairs"),
]


@pytest.mark.parametrize(("record", "message"), WRONG)
def test_what_cannot_be_used_is_refused(record, message):
    with pytest.raises(ConfigError, match=rf"t\.jsonl:1: .*{message}"):
        convert(record, detect(record), "t.jsonl:1")


REFUSED = [
    ({"prompt": "a", "completion": " b", "label": True}, "label", "KTO"),
    ({"instruction": "a", "output": "b", "kto_tag": False}, "kto_tag", "KTO"),
    ({"messages": [USER, ANSWER], "images": ["a.png"]}, "images", "only text is trained"),
    ({"messages": [USER, ANSWER], "chosen": "a"}, "chosen", "method: dpo"),
    ({"messages": [USER, ANSWER], "weight": 2}, "weight", "weights of records"),
    ({"prompt": "a", "answer": "b", "tools": [TOOL]}, "tools", "dialogues"),
    ({"text": "a", "reward": 1.5}, "reward", "not known to text"),
    ({"messages": [USER, {**ANSWER, "train_detail": [1]}]}, "messages[].train_detail", "whole"),
    ({"messages": [USER, {**ANSWER, "cause": 1}]}, "messages[].cause", "not known"),
]


@pytest.mark.parametrize(("record", "field", "hint"), REFUSED)
def test_other_fields_are_refused_once_and_may_be_ignored(
    record, field, hint, chatml, write_jsonl, tmp_path
):
    good = {key: value for key, value in record.items() if key != field}
    file = write_jsonl([good if good != record else {"messages": [USER, ANSWER]}, *[record] * 30])
    with pytest.raises(ConfigError) as caught:
        prepare(Data(train=file), chatml, tmp_path)
    (problem,) = caught.value.problems
    assert problem.path == f"{file}:2"
    assert f"30 of 31 records have the field {field!r}" in problem.message
    assert hint in problem.message
    ignored = Data(train=file, ignore_fields=[field.rpartition(".")[2]])
    assert len(prepare(ignored, chatml, tmp_path)) == 31


def test_harmless_and_empty_fields_are_accepted(chatml, write_jsonl, tmp_path):
    # FineWeb, OpenHermes and smoltalk have such fields; nulls are what Arrow adds.
    more = {"id": 1, "url": "u", "language_score": 0.9, "source": "s", "images": [], "label": None}
    file = write_jsonl([{"messages": [USER, {**ANSWER, "id": "7", "refusal": None}], **more}])
    assert len(prepare(Data(train=file), chatml, tmp_path)) == 1


def test_ignoring_a_used_field_drops_it(chatml, write_jsonl, tmp_path):
    file = write_jsonl([{"messages": [USER, {**ANSWER, "weight": 0}, USER, ANSWER]}])
    few = prepare(Data(train=file), chatml, tmp_path)
    all_ = prepare(Data(train=file, ignore_fields=["weight"]), chatml, tmp_path)
    assert all_.answer_tokens[0] == 2 * few.answer_tokens[0]


def test_a_set_of_alpaca_records_is_written_in_one_way(chatml, write_jsonl, tmp_path):
    plain = {"instruction": "Hi", "output": "Hello"}
    file = write_jsonl([plain, {**plain, "system": "Be brief"}])
    made = prepare(Data(train=file), chatml, tmp_path)
    assert chatml.decode(made[0]["input_ids"]).startswith("<|im_start|>user\nHi<|im_end|>")
    assert isinstance(convert(plain, "alpaca", ""), Text)


ANSWERS = {"chosen": "Hello", "rejected": "Go"}
PAIRS = [
    ({"instruction": "Hi", "input": "", **ANSWERS}, ["Hi"]),
    ({"instruction": "Hi", "input": "Bob", **ANSWERS}, ["Hi\nBob"]),
    ({"system": "Be brief", "question": "Hi", **ANSWERS}, ["Be brief", "Hi"]),
    ({"system": "", "question": "Hi", **ANSWERS}, ["Hi"]),
    ({"system": "Be brief", "input": "Hi", **ANSWERS}, ["Be brief", "Hi"]),
    ({"system": "Be brief", "prompt": "Hi", **ANSWERS}, ["Be brief", "Hi"]),
    ({"instruction": "Hi", "history": [["a", "b"]], **ANSWERS}, ["a", "b", "Hi"]),
    ({"messages": [USER], **ANSWERS}, ["Hi"]),
    (
        {"conversations": [HUMAN], "chosen": GPT, "rejected": {"from": "gpt", "value": "Go"}},
        ["Hi"],
    ),
    (
        {
            "prompt": "Hi",
            "chosen": [USER, ANSWER],
            "rejected": [USER, {**ANSWER, "content": "Go"}],
            "messages": [USER, ANSWER],
        },
        ["Hi"],
    ),
]


@pytest.mark.parametrize(("record", "prompt"), PAIRS)
def test_prompts_of_pairs(record, prompt):
    pair = convert_pair(record, "here")
    assert isinstance(pair, DialoguePair)
    assert [turn.content for turn in pair.prompt] == prompt
    assert [turn.content for turn in (*pair.chosen, *pair.rejected)] == ["Hello", "Go"]


def test_pairs_of_texts_stay_texts():
    assert convert_pair({"prompt": "Hi", **ANSWERS}, "") == TextPair("Hi", "Hello", "Go")


WRONG_PAIRS = [
    ({"prompt": "Hi", "question": "Hi", **ANSWERS}, "more than one prompt"),
    ({"history": [["a", "b"]], **ANSWERS}, "no prompt after it"),
    ({"prompt": "Hi", **ANSWERS, "margin": 3}, "'margin'"),
    ({"prompt": [USER], "chosen": [{**ANSWER, "weight": 0}], "rejected": [ANSWER]}, "not to be"),
    ({"prompt": "Bye", "chosen": [USER, ANSWER], "rejected": [USER, ANSWER]}, "'prompt' is not"),
]


@pytest.mark.parametrize(("record", "message"), WRONG_PAIRS)
def test_wrong_pairs(record, message, chatml, write_jsonl, tmp_path):
    file = write_jsonl([record])
    with pytest.raises(ConfigError, match=rf"train\.jsonl:1: .*{message}"):
        prepare_pairs(Data(train=file), chatml, tmp_path)


def test_unknown_fields_are_told_at_once(write_jsonl):
    records = [{"text": "a", "topic": "t"}, {"text": "b", "x": 1, "y": 2}, {"text": "c", "x": 3}]
    many = {f"field{number}": number for number in range(20)}
    with pytest.raises(ConfigError) as caught:
        read_examples(Data(train=write_jsonl([*records, {"text": "d", **many}])))
    first, second = caught.value.problems
    assert first.path.endswith(":2")
    assert "up to 2 of 4 records have the fields 'x', 'y'" in first.message
    assert 'ignore_fields: ["x", "y"]' in first.message
    assert all(f'"{name}"' in second.message for name in many)


def test_a_prompt_may_repeat_system_and_user(write_jsonl):
    """As in No Robots."""
    turns = [{"role": "system", "content": "Be kind."}, USER, ANSWER]
    record = {"messages": turns, "prompt": f"Be kind.\n{USER['content']} "}
    assert len(read_examples(Data(train=write_jsonl([record])))) == 1


def test_fine_tuning_records_of_openai(write_jsonl):
    turns = [{**USER, "name": None}, {**ANSWER, "refusal": None, "annotations": [], "weight": 1}]
    record = {"messages": turns, "parallel_tool_calls": False}
    assert len(read_examples(Data(train=write_jsonl([record])))) == 1
    refused = {"role": "assistant", "content": None, "refusal": "I cannot."}
    with pytest.raises(ConfigError, match="write there what the assistant says in refusal"):
        read_examples(Data(train=write_jsonl([{"messages": [USER, refused]}])))
