"""Bad evaluations are refused before anything trains, each named with its place."""

import copy
import json

import pytest
import torch

from hft_ray.config import ConfigError
from hft_ray.config.load import validate
from hft_ray.ranks import Ranks
from hft_ray.training import Workspace, check

ITEM = {"question": "q", "choices": ["a", "b"], "answer": 1}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    return Workspace(tmp_path_factory.mktemp("root"), Ranks(), torch.device("cpu"))


def checked(tiny_file, workspace, trust_hub=False, **entry):
    raw = copy.deepcopy(tiny_file)
    raw["evaluation"]["general"].append({"name": "bad"} | entry)
    return check(validate(raw, "FILE"), workspace, "FILE", trust_hub)


def file(folder, *records):
    path = folder / "items.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return str(path)


BAD = [
    ("an unknown scorer", {"kind": "guess"}, [ITEM], r"general\.2\.kind: must be one of"),
    (
        "an unknown metric",
        {"kind": "generation", "metric": "bleu"},
        [ITEM],
        r"general\.2\.metric: ",
    ),
    (
        "a missing field",
        {"kind": "multiple_choice"},
        [{"question": "q", "choices": ["a", "b"]}],
        r"items\.jsonl:1: the record has no 'answer'",
    ),
    ("no items", {"kind": "perplexity"}, [], r"general\.2\.data: the data set is empty"),
    (
        "no items after the shots",
        {"kind": "multiple_choice", "shots": 1},
        [ITEM],
        r"general\.2\.data: has 1 records, and the evaluation needs 2 with its shots",
    ),
    (
        "a choice out of range",
        {"kind": "multiple_choice"},
        [ITEM, ITEM | {"answer": 2}],
        r"items\.jsonl:2: answer must be the index of a choice, from 0 to 1",
    ),
    ("kl on questions", {"kind": "kl"}, [ITEM], r"items\.jsonl:1: the record has no 'prompt'"),
]


@pytest.mark.parametrize(("entry", "records", "message"), [row[1:] for row in BAD])
def test_it_is_refused(entry, records, message, tiny_file, workspace, tmp_path):
    with pytest.raises(ConfigError, match=message):
        checked(tiny_file, workspace, data=file(tmp_path, *records), **entry)


def test_a_task_that_lm_eval_does_not_have_is_refused(tiny_file, workspace):
    pytest.importorskip("lm_eval")
    entry = {"kind": "lm_eval", "task": "hellaswagg"}
    for trust_hub in (False, True):
        with pytest.raises(ConfigError, match=r"general\.2\.task: .* did you mean 'hellaswag"):
            checked(tiny_file, workspace, trust_hub, **entry)


def test_a_plan_fetches_no_data_of_lm_eval(tiny_file, workspace):
    pytest.importorskip("lm_eval")
    trusted = checked(tiny_file, workspace, True, kind="lm_eval", task="hellaswag")
    assert trusted == ["lm-eval hellaswag"]
