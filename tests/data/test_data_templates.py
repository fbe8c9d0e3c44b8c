"""What chat templates make of dialogues, and what is said where they drop or refuse something."""

import json

import pytest
from chat_templates import LLAMA3, QWEN3, QWEN25, R1_DISTILL

from hft_ray.config import ConfigError, Data
from hft_ray.data import IGNORED, convert_pair, encode_answers, prepare

USER = {"role": "user", "content": "How many?"}
ANSWER = {"role": "assistant", "content": "Ten apples."}
TOOL = {"type": "function", "function": {"name": "count", "parameters": {"type": "object"}}}
CALL = {"function": {"name": "count", "arguments": {"fruit": 'app"le'}}}
TOOL_TURNS = [
    USER,
    {"role": "assistant", "content": "", "tool_calls": [CALL]},
    {"role": "tool", "content": '{"n": 10}'},
    ANSWER,
]


@pytest.fixture
def trained(chatml, write_jsonl, tmp_path):
    """Return of every example its text, and its trained parts."""

    def train(template, *records, **settings):
        chatml.chat_template = template
        data = Data(train=write_jsonl(records), max_length=4096, **settings)
        made = prepare(data, chatml, tmp_path)
        found = []
        for index in range(len(made)):
            item = made[index]
            runs, last = [], IGNORED
            for token, label in zip(item["input_ids"], item["labels"], strict=True):
                if label != IGNORED and last == IGNORED:
                    runs.append([])
                if label != IGNORED:
                    runs[-1].append(token)
                last = label
            found.append((chatml.decode(item["input_ids"]), [chatml.decode(run) for run in runs]))
        return found

    return train


def test_tools_and_calls_are_rendered(trained):
    ((text, parts),) = trained(QWEN25, {"messages": TOOL_TURNS, "tools": [TOOL]})
    assert '{"type": "function", "function": {"name": "count"' in text
    assert '<tool_response>\n{"n": 10}\n</tool_response>' in text
    call = '<tool_call>\n{"name": "count", "arguments": {"fruit": "app\\"le"}}\n</tool_call>'
    assert parts == [f"{call}<|im_end|>\n", "Ten apples.<|im_end|>\n"]


def test_white_space_and_json_are_no_loss(trained):
    spaced = [{**turn, "content": f" {turn['content']}\n"} for turn in TOOL_TURNS]
    ((_, parts),) = trained(LLAMA3, {"messages": spaced})
    assert len(parts) == 2


def test_a_template_may_want_settings(trained):
    record = {"messages": [USER, ANSWER], "chat_template_kwargs": {"enable_thinking": False}}
    ((_, parts),) = trained(QWEN3, record)
    assert parts == ["Ten apples.<|im_end|>\n"]


THOUGHT = {**ANSWER, "reasoning_content": "Five and five."}


@pytest.mark.parametrize(
    "answer", [THOUGHT, {**ANSWER, "content": "<think>\nFive and five.\n</think>\n\nTen apples."}]
)
def test_reasoning_is_trained_and_dropped_before_later_questions(answer, trained, caplog):
    first, second = trained(QWEN3, {"messages": [USER, answer, USER, answer]})
    whole = "<think>\nFive and five.\n</think>\n\nTen apples.<|im_end|>\n"
    assert first[1] == second[1] == [whole]
    assert second[0].count("Five and five.") == 1
    assert "1 of 1 dialogues became one example for each answer" in caplog.text


CHATML = "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}"
CHATML += "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
NO_SYSTEM = CHATML.replace(
    "{{ '<|im_start|>' + m", "{% if m.role != 'system' %}{{ '<|im_start|>' + m", 1
)
NO_SYSTEM = NO_SYSTEM.replace("<|im_end|>\n' }}", "<|im_end|>\n' }}{% endif %}", 1)

DROPS = [
    (CHATML, {"messages": [USER, THOUGHT]}, "drops this answer's reasoning"),
    (CHATML, {"messages": TOOL_TURNS}, "does not render the turn's tool_calls"),
    (CHATML, {"messages": [USER, ANSWER], "tools": [TOOL]}, "does not render tools"),
    (NO_SYSTEM, {"messages": [USER, ANSWER], "system": "Count!"}, "leaves out this turn of role"),
    (
        R1_DISTILL,
        {"messages": [USER, {**ANSWER, "content": "<think>\nFive.\n</think>\nTen."}]},
        "drops a part of this text",
    ),
    # The name stands in the call, not among the tools.
    (
        QWEN25.replace("if tools", "if false"),
        {"messages": TOOL_TURNS, "tools": [TOOL]},
        "does not render tools",
    ),
]


@pytest.mark.parametrize(("template", "record", "message"), DROPS)
def test_what_a_template_drops_is_told(template, record, message, trained):
    with pytest.raises(ConfigError, match=rf"train\.jsonl:1: .*{message}"):
        trained(template, record)


def test_an_answer_in_the_question_does_not_hide_that_it_is_dropped(trained):
    question = {"role": "user", "content": "Is it <think>Five.</think>Ten?"}
    answer = {**ANSWER, "content": "<think>Five.</think>Ten"}
    with pytest.raises(ConfigError, match="drops a part of this text"):
        trained(R1_DISTILL, {"messages": [question, answer]})


FAILS = [
    "{{ raise_exception('no') }}",
    "{{ messages[0].content + 3 }}",
    "{{ messages[0]['content'].index('zzz') }}",
    "{{ {}['a'].b }}",
    "{{ 1 / 0 }}",
    "{% if %}",
    {"tool_use": CHATML, "rag": CHATML},
]


@pytest.mark.parametrize("template", FAILS)
def test_a_template_that_fails_is_a_configuration_error(template, trained):
    with pytest.raises(ConfigError, match=r"train\.jsonl:1: |rag, tool_use"):
        trained(template, {"messages": [USER, ANSWER]})


def test_a_dialogue_may_begin_with_the_assistant(trained):
    hello = {"role": "assistant", "content": "Hello."}
    (made,) = trained(QWEN25, {"messages": [hello, USER, ANSWER]})
    assert made[1] == ["Hello.<|im_end|>\n", "Ten apples.<|im_end|>\n"]
    (made,) = trained(QWEN25, {"prompt": [hello, USER], "completion": [ANSWER]})
    assert made[1] == ["Ten apples.<|im_end|>\n"]


@pytest.mark.parametrize(
    ("template", "role"), [(CHATML, "system"), (CHATML + "{# developer #}", "developer")]
)
def test_a_developer_is_the_system_where_the_template_does_not_know_it(template, role, trained):
    ((text, _),) = trained(
        template, {"messages": [{"role": "developer", "content": "Count!"}, USER, ANSWER]}
    )
    assert text.startswith(f"<|im_start|>{role}\nCount!")


def test_pairs_are_checked_too(chatml):
    record = {"question": "How many?", "chosen": "<think>5</think>Ten", "rejected": "Two"}
    chatml.chat_template = R1_DISTILL
    with pytest.raises(ConfigError, match=r"chosen\[0\]: .*drops a part"):
        encode_answers(chatml, convert_pair(record, "here"), 512)
    chatml.chat_template = QWEN25
    record = {**record, "tools": [TOOL], "system": "Count!"}
    chosen, _ = encode_answers(chatml, convert_pair(record, "here"), 4096)
    assert '"name": "count"' in chatml.decode(chosen.input_ids)


@pytest.mark.parametrize("said", ["<b>Ten</b> apples.", "<thin>", "<", ""])
def test_an_answer_may_begin_as_the_mark_that_the_header_ends_with(said, trained, chatml):
    """The header of R1_DISTILL ends with <think>, which no answer has."""
    ((_, parts),) = trained(R1_DISTILL, {"messages": [USER, {**ANSWER, "content": said}]})
    assert parts == [f"{said}<|im_end|>"]
    record = {"question": "How many?", "chosen": said, "rejected": "<two>"}
    for encoded, answer in zip(
        encode_answers(chatml, convert_pair(record, "here"), 512), (said, "<two>"), strict=True
    ):
        labels = [label for label in encoded.labels if label != IGNORED]
        assert chatml.decode(labels) == f"{answer}<|im_end|>"


@pytest.mark.parametrize("system", ["be", "s", "in"])
def test_a_short_turn_that_is_dropped_is_told(system, trained):
    with pytest.raises(ConfigError, match="leaves out this turn of role system"):
        trained(NO_SYSTEM, {"messages": [USER, ANSWER], "system": system})
    ((text, _),) = trained(CHATML, {"messages": [USER, ANSWER], "system": system})
    assert text.startswith(f"<|im_start|>system\n{system}<|im_end|>")


def test_what_to_do_is_told_where_a_template_refuses(trained):
    refusing = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    with pytest.raises(ConfigError, match=r"no system; .*into the first user's turn"):
        trained(refusing + CHATML, {"messages": [USER, ANSWER], "system": "Count!"})


def test_tools_may_be_json_each(trained):
    ((text, _),) = trained(QWEN25, {"messages": [USER, ANSWER], "tools": [json.dumps(TOOL)]})
    assert json.dumps(TOOL) in text


@pytest.mark.parametrize("arguments", [{"n": float("nan")}, '{"n": [-Infinity]}'])
def test_a_model_does_not_learn_json_that_is_none(arguments, trained):
    call = {"function": {"name": "count", "arguments": arguments}}
    turn = {"role": "assistant", "content": None, "tool_calls": [call]}
    with pytest.raises(ConfigError, match=r"messages\[1\]: .*NaN or Infinity"):
        trained(QWEN25, {"messages": [USER, turn]})
