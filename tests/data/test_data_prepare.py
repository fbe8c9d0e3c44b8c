"""The cached training set."""

import json
import multiprocessing
from pathlib import Path

import numpy as np
import pytest

from hft_ray.config import ConfigError, Data
from hft_ray.data import IGNORED, Text, encode, prepare

RECORDS = [{"prompt": f"Question {i}:", "completion": " ten" * (i + 1)} for i in range(9)]


def folders(cache):
    return sorted(path.name for path in (cache / "data").iterdir() if path.is_dir())


def direct(tokenizer, record, max_length=512):
    example = Text(((record["prompt"], False), (record["completion"], True)))
    return encode(tokenizer, example, max_length)


@pytest.fixture
def forbid_encoding(monkeypatch):
    """Make any further encoding fail."""

    def fail(*args):
        raise AssertionError("encoded again")

    return lambda: monkeypatch.setattr("hft_ray.data.cache.encode", fail)


@pytest.fixture
def file(write_jsonl):
    return write_jsonl(RECORDS)


def test_items_are_the_encoded_examples(llama3, file, tmp_path):
    made = prepare(Data(train=file), llama3, tmp_path)
    expected = [direct(llama3, record) for record in RECORDS]
    assert len(made) == len(RECORDS)
    for i in range(len(made)):
        assert set(made[i]) == {"input_ids", "labels"}
        assert made[i]["input_ids"].tolist() == expected[i].input_ids
        assert made[i]["labels"].tolist() == expected[i].labels
    assert made[-1]["input_ids"].tolist() == expected[-1].input_ids
    assert made[-2]["input_ids"].tolist() == expected[-2].input_ids
    with pytest.raises(IndexError):
        made[len(made)]
    answers = [int((made[i]["labels"][1:] != IGNORED).sum()) for i in range(len(made))]
    assert made.answer_tokens.tolist() == answers
    assert made.tokens == sum(len(each.input_ids) for each in expected)
    assert made.dropped == made.cut == 0


def test_second_call_does_not_encode_again(llama3, file, tmp_path, forbid_encoding):
    data = Data(train=file)
    first = prepare(data, llama3, tmp_path)
    forbid_encoding()
    # What the tokenizer was used for in between does not count.
    llama3("text", truncation=True, max_length=4)
    second = prepare(data, llama3, tmp_path)
    assert isinstance(second.input_ids, np.memmap)
    for i in range(len(first)):
        for name in ("input_ids", "labels"):
            assert np.array_equal(first[i][name], second[i][name])
    assert len(folders(tmp_path)) == 1


def test_same_content_elsewhere_is_the_same_set(llama3, write_jsonl, tmp_path, forbid_encoding):
    prepare(Data(train=write_jsonl(RECORDS, "a.jsonl")), llama3, tmp_path)
    forbid_encoding()
    prepare(Data(train=write_jsonl(RECORDS, "b.jsonl")), llama3, tmp_path)


def test_every_change_of_meaning_makes_a_new_set(llama3, chatml, write_jsonl, tmp_path):
    file = write_jsonl(RECORDS)
    prepare(Data(train=file), llama3, tmp_path)
    prepare(Data(train=file, limit=3), llama3, tmp_path)
    prepare(Data(train=file, max_length=16), llama3, tmp_path)
    # How passes are made of it is no part of a set.
    prepare(Data(train=file, packing=False), llama3, tmp_path)
    prepare(Data(train=file, format="prompt_completion"), llama3, tmp_path)
    prepare(Data(train=file), chatml, tmp_path)
    chatml.chat_template += "{# other #}"
    prepare(Data(train=file), chatml, tmp_path)
    chatml.eos_token = "<|im_start|>"
    prepare(Data(train=file), chatml, tmp_path)
    prepare(Data(train=write_jsonl(RECORDS[1:])), llama3, tmp_path)
    assert len(folders(tmp_path)) == 8


def test_examples_without_a_trained_token_are_dropped(llama3, write_jsonl, tmp_path, caplog):
    long = {"prompt": "Question: how many? " * 20, "completion": " ten"}
    made = prepare(
        Data(train=write_jsonl([RECORDS[0], long, RECORDS[1]]), max_length=32), llama3, tmp_path
    )
    assert (len(made), made.dropped, made.cut) == (2, 1, 1)
    assert made[1]["input_ids"].tolist() == direct(llama3, RECORDS[1]).input_ids
    assert "1 of all have no trained token left and were dropped" in caplog.text


def test_all_dropped_is_an_error(llama3, write_jsonl, tmp_path):
    long = {"prompt": "Question: how many? " * 20, "completion": " ten"}
    with pytest.raises(ConfigError, match=r"no example has a trained token within .* 16 tokens"):
        prepare(Data(train=write_jsonl([long]), max_length=16), llama3, tmp_path)
    assert folders(tmp_path) == []


def test_wrong_records_are_named_by_line_and_counted(llama3, write_jsonl, tmp_path):
    file = write_jsonl([RECORDS[0], *({"prompt": "x", "answer": "y"} for _ in range(13))])
    with pytest.raises(ConfigError) as caught:
        prepare(Data(train=file), llama3, tmp_path)
    text = str(caught.value)
    assert f"{file}:2: lacks the field 'completion' that format prompt_completion needs" in text
    assert f"{file}:11: " in text
    assert f"{file}:12: " not in text
    assert "and 3 more like these" in text
    assert len(text.splitlines()) < 24
    assert folders(tmp_path) == []


def test_unknown_format_names_the_file(llama3, write_jsonl, tmp_path):
    file = write_jsonl([{"q": "x"}])
    with pytest.raises(ConfigError, match=r"train.jsonl:1: no known format.*given: \['q'\]"):
        prepare(Data(train=file), llama3, tmp_path)


def test_refused_dialogues_are_named_by_line(llama2, write_jsonl, tmp_path):
    user, answer = ({"role": role, "content": "Hi"} for role in ("user", "assistant"))
    file = write_jsonl([{"messages": [user, answer]}, {"messages": [user, user, answer]}])
    with pytest.raises(ConfigError, match=r"train.jsonl:2: messages: .*refuses these roles"):
        prepare(Data(train=file), llama2, tmp_path)


def test_missing_template_is_said_once(llama2, write_jsonl, tmp_path):
    llama2.chat_template = None
    turns = [{"role": role, "content": "Hi"} for role in ("user", "assistant")]
    with pytest.raises(ConfigError, match=r"^1 problem:\n.*no chat template"):
        prepare(Data(train=write_jsonl([{"messages": turns}] * 3)), llama2, tmp_path)


def _prepare_in_process(folder, barrier, results):
    from transformers import PreTrainedTokenizerFast

    from hft_ray.data import cache as module

    encoded = []
    original = module.encode

    def counting(*args):
        encoded.append(args)
        return original(*args)

    module.encode = counting
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder / "tokenizer")
    barrier.wait()
    made = module.prepare(Data(train=str(folder / "train.jsonl")), tokenizer, folder)
    results.put((len(encoded), len(made), made.tokens))


def test_concurrent_processes_make_one_set(llama3, tmp_path):
    with Path(tmp_path, "train.jsonl").open("w") as file:
        file.writelines(json.dumps(record) + "\n" for record in RECORDS * 100)
    llama3.save_pretrained(tmp_path / "tokenizer")
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(2), context.Queue()
    processes = [
        context.Process(target=_prepare_in_process, args=(tmp_path, barrier, results))
        for _ in range(2)
    ]
    for process in processes:
        process.start()
    seen = sorted(results.get(timeout=120) for _ in processes)
    for process in processes:
        process.join(timeout=60)
        assert process.exitcode == 0
    assert [count for count, _, _ in seen] == [0, 900]
    assert seen[0][1:] == seen[1][1:]
    assert len(folders(tmp_path)) == 1
    assert prepare(Data(train=str(tmp_path / "train.jsonl")), llama3, tmp_path).tokens == seen[0][2]
