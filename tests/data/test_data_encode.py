"""Which tokens are trained, on every format: the decoded spans are checked by hand."""

import pytest
import torch

from hft_ray.config import ConfigError
from hft_ray.data import IGNORED, convert, detect, encode

SYSTEM = {"role": "system", "content": "You are a helpful assistant."}
TURNS = [
    {"role": "user", "content": "What is the capital of France?"},
    {"role": "assistant", "content": "Paris."},
    {"role": "user", "content": "And of Peru?"},
    {"role": "assistant", "content": "Lima, señor 😀."},
]
SHAREGPT = [
    {"from": "system", "value": SYSTEM["content"]},
    {"from": "human", "value": TURNS[0]["content"]},
    {"from": "gpt", "value": TURNS[1]["content"]},
    {"from": "human", "value": TURNS[2]["content"]},
    {"from": "gpt", "value": TURNS[3]["content"]},
]


def encoded(tokenizer, record, max_length=512):
    return encode(tokenizer, convert(record, detect(record), "train.jsonl:1"), max_length)


def trained(tokenizer, result):
    """Decode each run of trained tokens."""
    assert len(result.input_ids) == len(result.labels)
    runs, current = [], []
    for token, label in zip(result.input_ids, result.labels, strict=True):
        assert label in (IGNORED, token)
        if label != IGNORED:
            current.append(token)
        elif current:
            runs.append(current)
            current = []
    runs += [current] if current else []
    return [tokenizer.decode(run) for run in runs]


def whole(tokenizer, result):
    return tokenizer.decode(result.input_ids)


def test_messages_train_every_answer_and_its_end_mark(chatml):
    result = encoded(chatml, {"messages": [SYSTEM, *TURNS]})
    assert trained(chatml, result) == ["Paris.<|im_end|>\n", "Lima, señor 😀.<|im_end|>\n"]
    assert whole(chatml, result) == (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
        "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n"
        "<|im_start|>assistant\nParis.<|im_end|>\n"
        "<|im_start|>user\nAnd of Peru?<|im_end|>\n"
        "<|im_start|>assistant\nLima, señor 😀.<|im_end|>\n"
    )


def test_messages_with_a_template_that_writes_bos_and_eos(llama2):
    result = encoded(llama2, {"messages": [SYSTEM, *TURNS]})
    assert [text.strip() for text in trained(llama2, result)] == [
        "Paris. </s>",
        "Lima, señor 😀. </s>",
    ]
    # One BOS per round, as the template says, and none besides.
    assert result.input_ids.count(llama2.bos_token_id) == 2
    assert result.input_ids[0] == llama2.bos_token_id
    assert result.labels[0] == IGNORED


def test_messages_with_a_template_that_lacks_the_bos_of_the_tokenizer(llama3):
    result = encoded(llama3, {"messages": [SYSTEM, *TURNS]})
    assert trained(llama3, result) == ["Paris.<|im_end|>\n", "Lima, señor 😀.<|im_end|>\n"]
    assert result.input_ids.count(llama3.bos_token_id) == 1
    assert result.input_ids[0] == llama3.bos_token_id


def test_sharegpt_is_messages_under_other_names(chatml):
    assert encoded(chatml, {"conversations": SHAREGPT}) == encoded(
        chatml, {"messages": [SYSTEM, *TURNS]}
    )


def test_prompt_tokens_are_those_that_generation_starts_from(chatml):
    result = encoded(chatml, {"messages": TURNS[:2]})
    prompt = chatml.apply_chat_template(
        TURNS[:1], add_generation_prompt=True, tokenize=True, return_dict=False
    )
    first = next(i for i, label in enumerate(result.labels) if label != IGNORED)
    assert result.input_ids[:first] == prompt


def test_conversational_completion_trains_only_the_completion(chatml):
    result = encoded(chatml, {"prompt": TURNS[:3], "completion": TURNS[3:]})
    assert trained(chatml, result) == ["Lima, señor 😀.<|im_end|>\n"]
    assert result.input_ids == encoded(chatml, {"messages": TURNS}).input_ids


@pytest.mark.parametrize(
    ("prompt", "completion", "expected"),
    [
        ("Question: how many?\nAnswer:", " ten apples", " ten apples"),
        ("Question: how many?\nAnswer: ", "ten apples", " ten apples"),
        ("Question: how many?\nAnswer:  ", "ten apples", "  ten apples"),
        ("Question: how many?\n", "ten apples", "ten apples"),
        ("Question: how many?\n\n", "\nten\n\n", "\nten\n\n"),
        ("", "ten apples", "ten apples"),
    ],
)
@pytest.mark.parametrize("name", ["chatml", "llama3"])
def test_prompt_completion_trains_completion_and_eos(request, name, prompt, completion, expected):
    tokenizer = request.getfixturevalue(name)
    result = encoded(tokenizer, {"prompt": prompt, "completion": completion})
    assert whole(tokenizer, result).endswith(prompt + completion + tokenizer.eos_token)
    (run,) = trained(tokenizer, result)
    if prompt or name == "llama3":
        assert run == expected + tokenizer.eos_token
    else:
        # Without BOS nothing comes before the first token, so it is no target.
        assert result.labels[0] == IGNORED
        assert result.labels[1:] == result.input_ids[1:]


def test_prompt_completion_with_bos(llama2):
    result = encoded(llama2, {"prompt": "how many?", "completion": " ten apples"})
    assert whole(llama2, result).replace("<s> ", "<s>") == "<s>how many? ten apples</s>"
    assert trained(llama2, result) == [" ten apples</s>"]


@pytest.mark.parametrize("name", ["chatml", "llama3"])
def test_eos_in_the_text_is_not_doubled(request, name):
    tokenizer = request.getfixturevalue(name)
    result = encoded(tokenizer, {"prompt": "Answer:", "completion": " ten" + tokenizer.eos_token})
    assert result.input_ids.count(tokenizer.eos_token_id) == 1
    assert result.labels[-1] == tokenizer.eos_token_id


def test_an_answer_that_begins_within_a_word_has_tokens_of_its_own(chatml):
    # "Answer" is one token of the trained vocabulary, but generation starts from "Ans".
    result = encoded(chatml, {"prompt": "how many? Ans", "completion": "wer: ten"})
    prompt = chatml("how many? Ans", add_special_tokens=False).input_ids
    assert chatml(" Answer", add_special_tokens=False).input_ids[0] not in result.input_ids
    assert result.input_ids[: len(prompt)] == prompt
    assert trained(chatml, result) == ["wer: ten<|im_end|>"]


def test_alpaca_without_input(chatml):
    result = encoded(chatml, {"instruction": "Name a fruit.", "input": "", "output": "A lemon."})
    assert trained(chatml, result) == ["A lemon.<|im_end|>"]
    assert whole(chatml, result) == (
        "Below is an instruction that describes a task. Write a response that appropriately "
        "completes the request.\n\n### Instruction:\nName a fruit.\n\n### Response:"
        "A lemon.<|im_end|>"
    )


def test_alpaca_with_input_and_braces(llama3):
    record = {"instruction": "Sort {these}.", "input": "b a", "output": "a b"}
    result = encoded(llama3, record)
    assert trained(llama3, result) == ["a b<|end|>"]
    assert whole(llama3, result) == (
        "<|begin|>Below is an instruction that describes a task, paired with an input that "
        "provides further context. Write a response that appropriately completes the request."
        "\n\n### Instruction:\nSort {these}.\n\n### Input:\nb a\n\n### Response:a b<|end|>"
    )


def test_text_trains_everything_but_the_first_token(llama3, chatml):
    text = "The capital of Japan is Tokyo.\n"
    assert trained(llama3, encoded(llama3, {"text": text})) == [text + "<|end|>"]
    result = encoded(chatml, {"text": text})
    assert result.labels == [IGNORED, *result.input_ids[1:]]
    assert whole(chatml, result) == text + "<|im_end|>"


def test_text_that_brings_its_own_bos_gets_no_second(llama3):
    result = encoded(llama3, {"text": "<|begin|>Tokyo"})
    assert result.input_ids.count(llama3.bos_token_id) == 1


def test_what_is_longer_is_cut_at_the_end(chatml):
    record = {"prompt": "Answer:", "completion": " ten apples, two pears and one lemon."}
    full = encoded(chatml, record)
    short = encoded(chatml, record, max_length=8)
    assert not full.cut
    assert short.cut
    assert short.input_ids == full.input_ids[:8]
    assert short.labels == full.labels[:8]
    exact = encoded(chatml, record, max_length=len(full.input_ids))
    assert exact == full


def test_answer_tokens_are_the_targets_after_the_shift(llama3):
    result = encoded(llama3, {"messages": TURNS})
    assert result.answer_tokens == (torch.tensor(result.labels)[1:] != IGNORED).sum()


def test_no_chat_template(chatml):
    chatml.chat_template = None
    with pytest.raises(ConfigError, match=r"no chat template.*chat_template\.jinja"):
        encoded(chatml, {"messages": TURNS})


def test_template_that_rewrites_earlier_turns(rewriting):
    with pytest.raises(ConfigError, match=r"messages\[1\].*otherwise once later turns follow"):
        encoded(rewriting, {"messages": TURNS})
    assert trained(rewriting, encoded(rewriting, {"messages": TURNS[:2]})) == [
        "<think></think>Paris.<|im_end|>\n"
    ]


def test_header_with_a_mark_that_answers_lack(chatml):
    chatml.chat_template = chatml.chat_template.replace(
        "assistant\n' }}", "assistant\n' + '<think>' }}"
    )
    assert trained(chatml, encoded(chatml, {"messages": TURNS[:2]})) == ["Paris.<|im_end|>\n"]


def test_template_that_refuses_the_roles(llama2):
    with pytest.raises(ConfigError, match="refuses these roles: roles must alternate"):
        encoded(llama2, {"messages": [TURNS[0], TURNS[0], TURNS[1]]})


def test_slow_tokenizer_is_refused():
    from transformers import ByT5Tokenizer

    with pytest.raises(ConfigError, match="needs a fast tokenizer"):
        encoded(ByT5Tokenizer(), {"text": "Tokyo"})
