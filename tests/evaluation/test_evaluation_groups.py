"""Items that are drawn together: the field ``group`` of evaluation records."""

import pytest
from evaluation_models import make_pair, write_jsonl

from hft_ray.config import ConfigError, EvaluationSection
from hft_ray.evaluation import Score, Scores, Suite, check_evaluation
from hft_ray.evaluation.items import load_groups

RECORDS = {
    "perplexity": {"text": "some text of words"},
    "multiple_choice": {"question": "q", "choices": ["a", "b", "c", "d"], "answer": 1},
    "generation": {"prompt": "p", "answer": "a"},
    "kl": {"prompt": "p", "answer": "a"},
    "preference": {"prompt": "p", "chosen": "a", "rejected": "b"},
}


def entry(kind, folder, groups, **more):
    records = [RECORDS[kind] | ({} if group is None else {"group": group}) for group in groups]
    data = write_jsonl(folder / "items.jsonl", records)
    entries = [{"name": "e", "kind": kind, "data": str(data), **more}]
    return EvaluationSection.model_validate({"general": entries})


@pytest.mark.parametrize("kind", RECORDS)
def test_groups_are_numbered_and_records_without_one_stand_alone(kind, tmp_path):
    section = entry(kind, tmp_path, ["x", None, 7, "x", "7", None, 7])
    (evaluation,) = section.general
    assert load_groups(evaluation, "general.0") == [0, 1, 2, 0, 3, 4, 2]
    assert load_groups(evaluation.model_copy(update={"limit": 3}), "general.0") == [0, 1, 2]
    (evaluation,) = entry(kind, tmp_path, [None, None]).general
    assert load_groups(evaluation, "general.0") is None


def test_shots_are_not_scored(tmp_path):
    (evaluation,) = entry("multiple_choice", tmp_path, ["a", "a", "b", "b"], shots=1).general
    assert load_groups(evaluation, "general.0") == [0, 1, 1]


@pytest.mark.parametrize("group", [True, 1.5, ["a"], {"a": 1}])
@pytest.mark.parametrize("kind", RECORDS)
def test_a_group_is_a_text_or_an_integer(kind, group, tmp_path):
    (evaluation,) = entry(kind, tmp_path, ["a", group]).general
    with pytest.raises(ConfigError, match="group must be a text or an integer") as caught:
        check_evaluation(evaluation, "general.0")
    assert [problem.path[-2:] for problem in caught.value.problems] == [":2"]


@pytest.mark.parametrize("kind", RECORDS)
def test_scores_keep_their_groups(kind, tmp_path):
    model, tokenizer = make_pair("llama")
    suite = Suite(entry(kind, tmp_path, [3, 3, "b", "b", 3]), tokenizer)
    base = suite.score(model)
    scores = suite.score(model, base=base) if kind in ("kl", "preference") else base
    found = scores.general["e"]
    assert found.groups == (0, 0, 1, 1, 0)
    assert found == Score.of(
        found.metric, found.items, worst=found.worst, weights=found.weights, chance=found.chance
    ).grouped([0, 0, 1, 1, 0])
    assert Scores.from_json(scores.to_json()) == scores


def test_the_chance_of_choices_and_pairs(tmp_path):
    model, tokenizer = make_pair("llama")
    for kind, chance in (("multiple_choice", 0.25), ("preference", 0.5), ("generation", 0.0)):
        suite = Suite(entry(kind, tmp_path, [None] * 3), tokenizer)
        assert suite.score(model).general["e"].chance == chance
