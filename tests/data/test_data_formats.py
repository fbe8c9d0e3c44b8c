"""Detecting formats, and what is said about records that are wrong."""

import pytest

from hft_ray.config import ConfigError
from hft_ray.data import Dialogue, Message, Text, convert, detect

USER = {"role": "user", "content": "Hi"}
ANSWER = {"role": "assistant", "content": "Hello"}


@pytest.mark.parametrize(
    ("record", "form"),
    [
        ({"messages": []}, "messages"),
        ({"prompt": "", "prompt_id": "", "messages": []}, "messages"),
        ({"conversations": []}, "sharegpt"),
        ({"prompt": "", "completion": ""}, "prompt_completion"),
        ({"instruction": "", "input": "", "output": "", "text": ""}, "alpaca"),
        ({"text": "", "prompt": ""}, "text"),
        ({"prompt": ""}, "prompt_completion"),
        ({"instruction": ""}, "alpaca"),
    ],
)
def test_detect(record, form):
    assert detect(record) == form


def test_detect_says_what_is_known():
    with pytest.raises(ConfigError, match=r"alpaca: instruction, output.*given: \['q', 'a'\]"):
        detect({"q": "", "a": ""})


def test_dialogues():
    expected = Dialogue((Message("user", "Hi", False), Message("assistant", "Hello", True)))
    assert convert({"messages": [USER, ANSWER]}, "messages", "") == expected
    sharegpt = [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]
    assert convert({"conversations": sharegpt}, "sharegpt", "") == expected
    trl = {"prompt": [USER, ANSWER, USER], "completion": [ANSWER]}
    dialogue = convert(trl, "prompt_completion", "")
    assert [message.trained for message in dialogue.messages] == [False, False, False, True]


def test_texts():
    assert convert({"text": "a"}, "text", "") == Text((("a", True),))
    record = {"prompt": "a", "completion": "b"}
    assert convert(record, "prompt_completion", "") == Text((("a", False), ("b", True)))


@pytest.mark.parametrize(
    ("form", "record", "expected"),
    [
        ("text", {"txt": "a"}, r"lacks the field 'text' that format text needs.*\['txt'\]"),
        ("text", {"text": None}, "field 'text' is null"),
        ("text", {"text": 3}, "field 'text' must be a string .given: 3"),
        ("prompt_completion", {"prompt": "a"}, "lacks the field 'completion'"),
        ("prompt_completion", {"completion": "a"}, "lacks the field 'prompt'"),
        ("prompt_completion", {"prompt": [USER], "completion": "a"}, "must be a list"),
        ("prompt_completion", {"prompt": [USER], "completion": [USER]}, "no assistant turn"),
        ("alpaca", {"instruction": "a"}, "lacks the field 'output'"),
        ("alpaca", {"instruction": "a", "output": "b", "input": 1}, "'input' must be a string"),
        ("messages", {"text": "a"}, "lacks the field 'messages'"),
        ("messages", {"messages": []}, "at least one message"),
        ("messages", {"messages": ["Hi"]}, r"messages\[0\] must be an object"),
        ("messages", {"messages": [USER]}, "no assistant turn"),
        ("messages", {"messages": [USER, {"role": "assistant"}]}, r"messages\[1\].*'content'"),
        (
            "messages",
            {"messages": [{"role": "bot", "content": ""}]},
            "one of system, developer, us",
        ),
        ("messages", {"messages": [{"role": [], "content": ""}]}, "one of system, developer, us"),
        ("sharegpt", {"conversations": [{"value": "a"}]}, r"conversations\[0\].*'from'"),
        ("sharegpt", {"conversations": [{"from": "gpt"}]}, r"conversations\[0\].*'value'"),
    ],
)
def test_wrong_records_name_place_and_field(form, record, expected):
    with pytest.raises(ConfigError, match=f"t.jsonl:7: .*{expected}"):
        convert(record, form, "t.jsonl:7")
