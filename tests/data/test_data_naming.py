"""Records whose fields have other names, as in public data sets: what to rename is told."""

import pytest

from hft_ray.config import ConfigError, Data
from hft_ray.data import read_examples

RENAMES = [
    # Dolly, MetaMathQA, GSM8K, OpenOrca, HelpSteer, FLAN, LMSYS-Chat, and what programs write.
    ({"instruction": "a", "context": "b", "response": "c"}, "'context' to 'input' and 'response'"),
    ({"query": "a", "response": "b", "type": "c"}, "'query' to 'prompt' and 'response' to 'compl"),
    ({"question": "a", "answer": "b"}, "'question' to 'prompt'"),
    (
        {"system_prompt": "s", "question": "a", "response": "b"},
        "'question' to 'instruction' and 'response' to 'output'",
    ),
    ({"prompt": "a", "response": "b", "coherence": 4}, "'response' to 'completion'"),
    ({"inputs": "a", "targets": "b"}, "'inputs' to 'prompt' and 'targets' to 'completion'"),
    ({"input": "a", "output": "b"}, "'input' to 'prompt' and 'output' to 'completion'"),
    ({"conversation": [{"role": "user", "content": "a"}]}, "'conversation' to 'messages'"),
    ({"Prompt": "a", "completion ": "b"}, "'Prompt' to 'prompt' and 'completion ' to 'complet"),
    ({"instruction": "a", "response": "b"}, "'response' to 'output'"),
]


@pytest.mark.parametrize(("record", "message"), RENAMES)
def test_what_to_rename_is_told(record, message, write_jsonl):
    with pytest.raises(ConfigError, match=rf"train\.jsonl:1: .*rename {message}"):
        read_examples(Data(train=write_jsonl([record])))


@pytest.mark.parametrize(
    "record",
    [
        {"prompt": "a"},
        {"dialogue": "a", "score": 1},
        {"problem": "a", "level": 1},
        {"prompt": "a", "response": 5},
    ],
)
def test_nothing_is_guessed(record, write_jsonl):
    with pytest.raises(ConfigError) as caught:
        read_examples(Data(train=write_jsonl([record])))
    assert "rename" not in str(caught.value)
