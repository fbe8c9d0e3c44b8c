"""Preference records: how they are written, what is refused, and their tokens."""

import json

import pytest
from trl.data_utils import extract_prompt

from hft_ray.config import ConfigError, Data
from hft_ray.data import (
    IGNORED,
    DialoguePair,
    TextPair,
    collate_pairs,
    convert_pair,
    encode_answers,
    prepare_pairs,
)


def user(content):
    return {"role": "user", "content": content}


def assistant(content):
    return {"role": "assistant", "content": content}


def contents(pair):
    parts = (pair.prompt, pair.chosen, pair.rejected)
    return [[turn.content for turn in part] for part in parts]


def test_texts():
    record = {"prompt": "2 + 2 =", "chosen": " 4", "rejected": " 5", "score": 1}
    assert convert_pair(record, "here") == TextPair("2 + 2 =", " 4", " 5")


def test_whole_texts_share_their_prompt_as_in_trl():
    record = {"chosen": "Human: Hi\nBot: Hello you", "rejected": "Human: Hi\nBot: Hello, go"}
    pair = convert_pair(record, "here")
    assert vars(pair) == extract_prompt(record)
    spaced = {"chosen": "What? Yes it is", "rejected": "What? No"}
    assert vars(convert_pair(spaced, "here")) == extract_prompt(spaced)


@pytest.mark.parametrize(
    "record",
    [
        {"prompt": [user("a")], "chosen": [assistant("b")], "rejected": [assistant("c")]},
        # UltraFeedback: the prompt as text, the dialogues whole.
        {
            "prompt": "a",
            "chosen": [user("a"), assistant("b")],
            "rejected": [user("a"), assistant("c")],
        },
        {"chosen": [user("a"), assistant("b")], "rejected": [user("a"), assistant("c")]},
        {"prompt": "a", "chosen": [assistant("b")], "rejected": [assistant("c")]},
        {
            "prompt": [user("a")],
            "chosen": [user("a"), assistant("b")],
            "rejected": [user("a"), assistant("c")],
        },
    ],
)
def test_dialogues(record):
    pair = convert_pair(record, "here")
    assert isinstance(pair, DialoguePair)
    assert contents(pair) == [["a"], ["b"], ["c"]]


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"prompt": "a", "chosen": "b"}, "lacks the field 'rejected'"),
        ({"prompt": "a", "chosen": "b", "rejected": None}, "field 'rejected' is null"),
        ({"prompt": "a", "chosen": "b", "rejected": [assistant("c")]}, "must both be strings"),
        ({"prompt": 3, "chosen": "b", "rejected": "c"}, "field 'prompt' must be a string"),
        ({"chosen": "b", "rejected": "c"}, "has no prompt, and chosen and rejected begin with"),
        ({"chosen": [assistant("b")], "rejected": [assistant("c")]}, "do not begin with the same"),
        (
            {"prompt": [user("a")], "chosen": [user("b")], "rejected": [assistant("c")]},
            "field 'chosen' must end with an assistant's turn",
        ),
        (
            {"prompt": [user("a")], "chosen": [{"role": "bot"}], "rejected": [assistant("c")]},
            "chosen[0] needs a field 'role'",
        ),
    ],
)
def test_bad_records_are_refused_with_their_place(record, message, tmp_path, chatml):
    file = tmp_path / "pairs.jsonl"
    good = {"prompt": "a", "chosen": "b", "rejected": "c"}
    file.write_text("".join(json.dumps(each) + "\n" for each in (good, record)))
    with pytest.raises(ConfigError) as caught:
        prepare_pairs(Data(train=str(file)), chatml, tmp_path)
    (problem,) = caught.value.problems
    assert problem.path == f"{file}:2"
    assert message in problem.message


def test_a_set_of_another_format_is_refused(tmp_path, chatml):
    file = tmp_path / "pairs.jsonl"
    file.write_text(json.dumps({"prompt": "a", "completion": "b"}) + "\n")
    with pytest.raises(ConfigError, match="is not a preference record"):
        prepare_pairs(Data(train=str(file)), chatml, tmp_path)


def test_the_prompts_tokens_are_a_prefix_and_not_trained(chatml):
    turns = [user("How many?")]
    record = {"prompt": turns, "chosen": [assistant("Ten.")], "rejected": [assistant("Two pears.")]}
    chosen, rejected = encode_answers(chatml, convert_pair(record, "here"), 512)
    prompt = chatml.apply_chat_template(
        turns, add_generation_prompt=True, tokenize=True, return_dict=True
    )["input_ids"]
    for answer, text in ((chosen, "Ten."), (rejected, "Two pears.")):
        size = len(prompt)
        assert answer.input_ids[:size] == prompt
        assert answer.labels == [IGNORED] * size + answer.input_ids[size:]
        assert chatml.decode(answer.input_ids[size:]) == f"{text}<|im_end|>\n"


def test_texts_end_with_the_end_token(llama3):
    chosen, rejected = encode_answers(llama3, TextPair("Question: how many?", " ten", " two"), 512)
    for answer in (chosen, rejected):
        assert answer.input_ids[0] == llama3.bos_token_id
        assert answer.input_ids[-1] == answer.labels[-1] == llama3.eos_token_id
        assert answer.answer_tokens >= 2


def test_pairs_without_answers_left_or_with_the_same_are_dropped(tmp_path, llama3):
    long = "What is the capital of France? " * 20
    records = [
        {"prompt": "a", "chosen": " b", "rejected": " c"},
        {"prompt": "a", "chosen": " b", "rejected": " b"},
        {"prompt": long, "chosen": " b", "rejected": " c"},
    ]
    file = tmp_path / "pairs.jsonl"
    file.write_text("".join(json.dumps(record) + "\n" for record in records))
    made = prepare_pairs(Data(train=str(file), max_length=32), llama3, tmp_path)
    assert len(made) == 1
    assert (made.sequences.dropped, made.sequences.cut) == (2, 1)
    assert made.lengths == [max(len(each["input_ids"]) for each in made[0])]
    again = prepare_pairs(Data(train=str(file), max_length=32), llama3, tmp_path)
    assert again.identity == made.identity


def test_a_batch_tells_whose_token_is_whose(tmp_path, llama3):
    records = [{"prompt": "ab"[: i + 1], "chosen": " ten", "rejected": " two"} for i in range(2)]
    file = tmp_path / "pairs.jsonl"
    file.write_text("".join(json.dumps(record) + "\n" for record in records))
    made = prepare_pairs(Data(train=str(file)), llama3, tmp_path)
    pairs = [made[0], made[1]]
    for packed, rows in ((False, 4), (True, 1)):
        batch = collate_pairs(pairs, 0, packed)
        assert len(batch["input_ids"]) == rows
        for index, sequence in enumerate(each for pair in pairs for each in pair):
            mine = (batch["documents"] == index) & (batch["labels"] != IGNORED)
            expected = [label for label in sequence["labels"].tolist() if label != IGNORED]
            assert batch["labels"][mine].tolist() == expected


def test_a_prompt_of_turns_before_answers_of_text():
    record = {"prompt": [user("a"), assistant("b"), user("c")], "chosen": "d", "rejected": "e"}
    assert contents(convert_pair(record, "here")) == [["a", "b", "c"], ["d"], ["e"]]


def test_a_prompt_that_repeats_may_have_other_white_space():
    record = {
        "prompt": "a b\n",
        "chosen": [user(" a  b"), assistant("c")],
        "rejected": [user(" a  b"), assistant("d")],
    }
    assert contents(convert_pair(record, "here")) == [[" a  b"], ["c"], ["d"]]
