import json

import pytest
from evaluation_models import make_tokenizer

from hft_ray.config import ConfigError, EvaluationSection
from hft_ray.evaluation import Suite, check_evaluation, load_items
from hft_ray.evaluation.items import load_shots

GOOD = {
    "perplexity": {"text": "some text"},
    "multiple_choice": {"question": "q", "choices": ["a", "b"], "answer": 1},
    "generation": {"prompt": "p", "answer": "a"},
    "kl": {"prompt": "p", "answer": "a"},
}


def entry(kind, path, **more):
    section = {"task": [{"name": "e", "kind": kind, "data": str(path), **more}]}
    return EvaluationSection.model_validate(section).task[0]


def write(path, *records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


BAD = [
    ("perplexity", {"txt": "x"}, "no 'text'; its keys are: txt"),
    ("perplexity", {"text": " \n"}, "text must be a text that is not empty"),
    ("perplexity", {"text": 3}, "text must be a text that is not empty"),
    ("perplexity", {"prompt": "p"}, "no 'answer'"),
    ("perplexity", {"text": "x", "prompt": "p"}, "has the field text, and the field prompt"),
    ("multiple_choice", {"choices": ["a", "b"], "answer": 0}, "no 'question'"),
    ("multiple_choice", {"question": "q", "choices": ["a"], "answer": 0}, "two or more"),
    ("multiple_choice", {"question": "q", "choices": "ab", "answer": 0}, "two or more"),
    ("multiple_choice", {"question": "q", "choices": ["a", ""], "answer": 0}, "every choice"),
    ("multiple_choice", {"question": "q", "choices": ["a", "b"], "answer": 2}, "from 0 to 1"),
    ("multiple_choice", {"question": "q", "choices": ["a", "b"], "answer": -1}, "from 0 to 1"),
    ("multiple_choice", {"question": "q", "choices": ["a", "b"], "answer": "a"}, "from 0 to 1"),
    ("multiple_choice", {"question": "q", "choices": ["a", "b"], "answer": True}, "from 0 to 1"),
    ("generation", {"prompt": "p"}, "no 'answer'"),
    ("generation", {"prompt": "p", "answer": ""}, "answer must be a text"),
    ("generation", {"prompt": "p", "answer": 4}, "answer must be a text"),
    ("generation", {"prompt": "", "answer": "a"}, "prompt must be a text"),
    ("generation", {"prompt": [], "answer": "a"}, "prompt must be a text"),
    ("generation", {"prompt": [{"role": "user"}], "answer": "a"}, r"prompt\[0\] needs"),
    ("generation", {"prompt": "p", "answer": "a\nb"}, r"holds the stop string '\\n'"),
    ("generation", {"prompt": "p", "answer": []}, "or a list of such texts"),
    ("generation", {"prompt": "p", "answer": ["a", ""]}, "or a list of such texts"),
    ("kl", {"prompt": "p"}, "no 'answer'"),
    ("kl", {"text": ""}, "text must be a text"),
]


@pytest.mark.parametrize(
    ("metric", "module"),
    [("rouge_l", "rouge_score"), ("edit_similarity", "rapidfuzz"), ("sari", "sacrebleu")],
)
def test_a_metric_without_its_library_names_the_extra(metric, module, tmp_path, monkeypatch):
    path = write(tmp_path / "items.jsonl", GOOD["generation"] | {"source": "s"})
    found = entry("generation", path, metric=metric)
    check_evaluation(found, "evaluation.task.0")
    monkeypatch.setattr(
        "hft_ray.evaluation.text_metrics.find_spec", lambda name: None if name == module else name
    )
    with pytest.raises(ConfigError, match=r"pip install 'hft-ray\[trace\]'") as caught:
        check_evaluation(found, "evaluation.task.0")
    assert [each.path for each in caught.value.problems] == ["evaluation.task.0.metric"]
    check_evaluation(entry("generation", path), "evaluation.task.1")


@pytest.mark.parametrize(("kind", "record", "message"), BAD)
def test_a_bad_record_is_named_with_file_and_line(kind, record, message, tmp_path):
    path = write(tmp_path / "items.jsonl", GOOD[kind], record)
    with pytest.raises(ConfigError, match=message) as caught:
        load_items(entry(kind, path), "evaluation.task.0")
    assert [problem.path for problem in caught.value.problems] == [f"{path}:2"]


BAD_FOR_METRIC = [
    ("number_match", {"prompt": "p", "answer": ["7", "many"]}, "must hold a number"),
    ("sari", {"prompt": "p", "answer": "a"}, "needs the record's 'source'"),
    ("sari", {"prompt": "p", "answer": "a", "source": ""}, "source must be a text"),
]


@pytest.mark.parametrize(("metric", "record", "message"), BAD_FOR_METRIC)
def test_records_must_fit_their_metric(metric, record, message, tmp_path):
    path = write(tmp_path / "items.jsonl", record)
    with pytest.raises(ConfigError, match=message) as caught:
        load_items(entry("generation", path, metric=metric), "x")
    assert [problem.path for problem in caught.value.problems] == [f"{path}:1"]


@pytest.mark.parametrize("kind", ["generation", "multiple_choice"])
def test_shots_are_the_first_records_or_those_of_another_file(kind, tmp_path):
    key = "prompt" if kind == "generation" else "question"
    records = [GOOD[kind] | {key: f"item {index}"} for index in range(5)]
    path = write(tmp_path / "items.jsonl", *records)
    own = entry(kind, path, shots=2, limit=2)
    assert [getattr(each, key) for each in load_items(own, "x")] == ["item 2", "item 3"]
    solution = GOOD[kind]["answer"] if kind == "generation" else "b"
    assert load_shots(own, "x") == [("item 0", solution), ("item 1", solution)]
    other = entry(kind, path, shots=1, shots_data=str(write(tmp_path / "s.jsonl", records[4])))
    assert len(load_items(other, "x")) == 5
    assert load_shots(other, "x") == [("item 4", solution)]


def test_too_few_records_for_the_shots_are_refused(tmp_path):
    path = write(tmp_path / "items.jsonl", *[GOOD["generation"]] * 2)
    with pytest.raises(ConfigError, match=r"x\.data: has 2 records, and .* needs 3 with its shots"):
        check_evaluation(entry("generation", path, shots=2), "x")
    with pytest.raises(ConfigError, match=r"x\.shots_data: has 2 records, and .* needs 3"):
        check_evaluation(entry("generation", path, shots=3, shots_data=str(path)), "x")


def test_all_bad_records_are_named_together(tmp_path):
    path = tmp_path / "items.jsonl"
    path.write_text('{"text": "fine"}\n\n{"text": ""}\n{"no": 1}\n')
    with pytest.raises(ConfigError) as caught:
        load_items(entry("perplexity", path), "evaluation.task.0")
    assert [problem.path for problem in caught.value.problems] == [f"{path}:3", f"{path}:4"]


@pytest.mark.parametrize("kind", GOOD)
def test_good_records_load_up_to_the_limit(kind, tmp_path):
    path = write(tmp_path / "items.jsonl", *[GOOD[kind]] * 3)
    assert len(load_items(entry(kind, path), "x")) == 3
    assert len(load_items(entry(kind, path, limit=2), "x")) == 2


def test_an_empty_or_missing_file_is_refused(tmp_path):
    path = write(tmp_path / "items.jsonl")
    with pytest.raises(ConfigError, match=r"evaluation\.task\.0\.data: the data set is empty"):
        load_items(entry("perplexity", path), "evaluation.task.0")
    with pytest.raises(ConfigError, match="no such file"):
        load_items(entry("perplexity", tmp_path / "none.jsonl"), "evaluation.task.0")


def test_a_suite_names_the_problems_of_all_its_evaluations(tmp_path):
    bad = write(tmp_path / "bad.jsonl", {"no": 1})
    section = EvaluationSection.model_validate(
        {
            "task": [{"name": "a", "kind": "perplexity", "data": str(bad)}],
            "general": [{"name": "b", "kind": "generation", "data": str(tmp_path / "no.jsonl")}],
        }
    )
    with pytest.raises(ConfigError) as caught:
        Suite(section, make_tokenizer(bos=True))
    paths = [problem.path for problem in caught.value.problems]
    assert paths == [f"{bad}:1", "evaluation.general.0.data"]


@pytest.mark.parametrize("answer", [" a\n", [" a\n", "b"]])
def test_kl_compares_an_answer_as_it_stands(answer, tmp_path):
    """White space around it is trained, too; what is matched with an output has none."""
    path = write(tmp_path / "p.jsonl", {"prompt": "p", "answer": answer})
    (passage,) = load_items(entry("kl", path), "x")
    assert passage.text == " a\n"
    (prompt,) = load_items(entry("generation", path), "x")
    assert prompt.answers[0] == "a"


EXTRA = [
    ("perplexity", {"summary": "s"}, "summary"),
    ("multiple_choice", {"passage": "p"}, "passage"),
    ("generation", {"tools": [{"name": "f"}]}, "tools"),
    ("kl", {"system": "Be brief."}, "system"),
    ("preference", {"margin": 2}, "margin"),
]


@pytest.mark.parametrize(("kind", "extra", "name"), EXTRA)
def test_other_fields_are_refused_by_name_and_may_be_ignored(kind, extra, name, tmp_path):
    good = GOOD.get(kind, {"prompt": "p", "chosen": "a", "rejected": "b"})
    path = write(tmp_path / "items.jsonl", good | {"id": 3}, good | extra, good | extra)
    with pytest.raises(ConfigError, match=f"2 of 3 records have the field '{name}'") as caught:
        load_items(entry(kind, path), "evaluation.task.0")
    assert [problem.path for problem in caught.value.problems] == [f"{path}:2"]
    assert len(load_items(entry(kind, path, ignore_fields=[name]), "x")) == 3


@pytest.mark.parametrize("kind", [*GOOD, "preference"])
def test_half_of_a_surrogate_pair_is_refused(kind, tmp_path):
    good = GOOD.get(kind, {"prompt": "p", "chosen": "a", "rejected": "b"})
    bad = {key: f"{text}\ud83d" if isinstance(text, str) else text for key, text in good.items()}
    path = write(tmp_path / "items.jsonl", good, bad)
    with pytest.raises(ConfigError, match="half of a surrogate pair") as caught:
        load_items(entry(kind, path), "evaluation.task.0")
    assert [problem.path for problem in caught.value.problems] == [f"{path}:2"]


def test_a_null_is_named(tmp_path):
    path = write(tmp_path / "items.jsonl", {"prompt": "p", "answer": None})
    with pytest.raises(ConfigError, match=r"items\.jsonl:1: field 'answer' is null"):
        load_items(entry("generation", path), "x")
