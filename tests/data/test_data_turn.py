"""Where an assistant's turn ends, and what is told where nothing says so."""

import json
import logging

import pytest

from hft_ray.config import Data
from hft_ray.data import TurnEnd, end_tokens, prepare, prepare_pairs, turn_end

BODY = "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + END }}{% endfor %}"


def template(end):
    return BODY.replace("END", repr(end))


@pytest.mark.parametrize(
    ("end", "token", "text"),
    [
        ("<|im_end|>\n", "<|im_end|>", ""),
        (" <|im_end|>", "<|im_end|>", ""),
        ("<|im_end|>\n<|end|>", "<|im_end|>", ""),
        ("\n### End<|end|>", "<|end|>", "### End"),
        ("\n### End\n", None, "### End"),
        ("\n", None, ""),
        ("", None, ""),
    ],
)
def test_the_end_is_what_the_template_writes_after_an_answer(llama3, end, token, text):
    llama3.chat_template = template(end)
    expected = None if token is None else llama3.convert_tokens_to_ids(token)
    assert turn_end(llama3) == TurnEnd(expected, text)


def test_real_templates(chatml, llama2):
    assert turn_end(chatml) == TurnEnd(chatml.eos_token_id)
    assert turn_end(llama2) == TurnEnd(llama2.eos_token_id)
    chatml.chat_template = None
    assert turn_end(chatml) == TurnEnd()
    llama2.chat_template = "{{ raise_exception('system first') }}"
    assert turn_end(llama2) == TurnEnd()


def test_added_white_space_is_not_an_end(chatml):
    chatml.add_tokens(["\n\n"])
    chatml.chat_template = template("\n\n<|im_end|>")
    assert turn_end(chatml) == TurnEnd(chatml.convert_tokens_to_ids("<|im_end|>"))


def test_end_tokens_are_those_of_model_tokenizer_and_template(llama3):
    eos, end = llama3.eos_token_id, llama3.convert_tokens_to_ids("<|im_end|>")
    assert eos != end
    assert end_tokens(llama3) == [eos, end]
    assert end_tokens(llama3, 7) == [7, eos, end]
    assert end_tokens(llama3, [end, eos]) == [end, eos]
    llama3.eos_token = llama3.chat_template = None
    assert end_tokens(llama3) == []


def dialogue(answer):
    turns = [("user", "how many?"), ("assistant", answer)]
    return {"messages": [{"role": role, "content": content} for role, content in turns]}


PAIR = {"prompt": "how many?", "chosen": " ten", "rejected": " two"}
DIALOGUES = {
    "prompt": [{"role": "user", "content": "how many?"}],
    "chosen": [{"role": "assistant", "content": "ten"}],
    "rejected": [{"role": "assistant", "content": "two"}],
}


@pytest.mark.parametrize(
    ("make", "record", "eos", "end", "count", "reason"),
    [
        (prepare, {"prompt": "how many?", "completion": " ten"}, None, "", 1, "eos_token"),
        (prepare, {"text": "ten apples"}, None, "", 1, "eos_token"),
        (prepare, {"prompt": "how many?", "completion": " ten"}, "<|end|>", "", 0, ""),
        (prepare, dialogue("ten"), "<|end|>", "\n", 1, "chat template writes nothing"),
        (prepare, dialogue("ten"), None, "<|im_end|>", 0, ""),
        (prepare, dialogue("ten"), "<|end|>", " ### End", 0, ""),
        (prepare_pairs, PAIR, None, "", 2, "eos_token"),
        (prepare_pairs, PAIR, "<|end|>", "", 0, ""),
        (prepare_pairs, DIALOGUES, "<|end|>", "", 2, "chat template writes nothing"),
        (prepare_pairs, DIALOGUES, "<|end|>", "<|im_end|>", 0, ""),
    ],
)
def test_examples_without_an_end_are_told_each_time(
    make, record, eos, end, count, reason, tmp_path, llama3, caplog
):
    llama3.eos_token, llama3.chat_template = eos, template(end)
    path = tmp_path / "train.jsonl"
    path.write_text(json.dumps(record) + "\n")
    for _ in range(2):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            make(Data(train=str(path)), llama3, tmp_path)
        told = [message for message in caplog.messages if "does not learn to stop" in message]
        assert len(told) == (count > 0)
        if count:
            assert f"{path}: in {count} examples" in told[0]
            assert reason in told[0]
