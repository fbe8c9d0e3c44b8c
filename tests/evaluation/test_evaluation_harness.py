"""lm-eval on the live model: agreement with its own adapter, and with this project's scorers."""

import json
import random

import pytest
import yaml
from evaluation_models import make_pair, sentence, write_jsonl

from hft_ray.config import ConfigError, EvaluationSection, LmEval
from hft_ray.evaluation import BaseScores, Suite, check_evaluation, forgetting
from hft_ray.evaluation.harness import known_harness
from hft_ray.evaluation.harness_scorer import task_items

lm_eval = pytest.importorskip("lm_eval")


def task(name, data, **settings):
    return {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(data)}},
        "test_split": "test",
        "metadata": {"version": 1.0},
    } | settings


def metrics(*names, better=True):
    return [{"metric": n, "aggregation": "mean", "higher_is_better": better} for n in names]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder of local tasks over local data, a group of two among them."""
    root = tmp_path_factory.mktemp("tasks")
    rng = random.Random(3)
    questions = [
        {
            "question": sentence(rng, 2, 9),
            "choices": [sentence(rng, 1, 4) for _ in range(3)],
            "answer": rng.randrange(3),
        }
        for _ in range(13)
    ]
    data = write_jsonl(root / "questions.jsonl", questions)
    few = write_jsonl(root / "few.jsonl", questions[:3])
    texts = write_jsonl(root / "texts.jsonl", [{"text": sentence(rng, 2, 40)} for _ in range(7)])
    prompts = [{"prompt": sentence(rng, 2, 9), "answer": rng.choice("aeT")} for _ in range(9)]
    asked = write_jsonl(root / "prompts.jsonl", prompts)
    choice = {
        "output_type": "multiple_choice",
        "doc_to_text": "{{question}}",
        "doc_to_choice": "{{choices}}",
        "doc_to_target": "answer",
        "metric_list": metrics("acc", "acc_norm"),
    }
    tasks = [
        task("questions", data, **choice),
        task("few", few, **choice),
        task("shown", data, **choice, fewshot_split="test", num_fewshot=2),
        task(
            "texts",
            texts,
            output_type="loglikelihood_rolling",
            doc_to_text="",
            doc_to_target="{{text}}",
            metric_list=[
                {"metric": "bits_per_byte"},
                {"metric": "byte_perplexity"},
                {"metric": "word_perplexity"},
            ],
        ),
        task(
            "prompts",
            asked,
            output_type="generate_until",
            doc_to_text="{{prompt}}",
            doc_to_target="{{answer}}",
            generation_kwargs={"until": ["\n", " "], "max_gen_toks": 6, "do_sample": False},
            metric_list=metrics("exact_match"),
            filter_list=[
                {"name": "first", "filter": [{"function": "regex", "regex_pattern": "(\\S)"}]},
                {"name": "whole", "filter": [{"function": "take_first"}]},
            ],
        ),
        {
            "group": "both",
            "task": ["questions", "few"],
            "aggregate_metric_list": [{"metric": "acc", "weight_by_size": True}],
        },
        {
            "group": "alike",
            "task": ["questions", "few"],
            "aggregate_metric_list": [{"metric": "acc", "weight_by_size": False}],
        },
    ]
    for each in tasks:
        name = each.get("group") or each["task"]
        (root / f"{name}.yaml").write_text(yaml.safe_dump(each, sort_keys=False))
    return root


def entry(folder, name, **settings):
    values = {"name": name, "kind": "lm_eval", "task": name, "include_path": str(folder)}
    return LmEval.model_validate(values | settings)


def section(*entries, batch_size=4):
    return EvaluationSection(general=list(entries), batch_size=batch_size)


@pytest.fixture(scope="module", params=["llama", "gpt2"])
def pair(request):
    return make_pair(request.param)


def own_results(folder, pair, name, **more):
    """lm-eval's results by its own adapter of transformers."""
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    model, tokenizer = pair
    adapter = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=1)
    manager = TaskManager(include_path=str(folder), include_defaults=False)
    found = lm_eval.simple_evaluate(
        model=adapter, tasks=[name], task_manager=manager, bootstrap_iters=100, **more
    )
    return found["results"][name]


def score(pair, *entries):
    model, tokenizer = pair
    return Suite(section(*entries), tokenizer).score(model).general


@pytest.mark.parametrize("metric", ["acc", "acc_norm"])
def test_multiple_choice_agrees_with_lm_eval_and_with_our_scorer(metric, folder, pair):
    expected = own_results(folder, pair, "questions")
    ours = {
        "name": "ours",
        "kind": "multiple_choice",
        "data": str(folder / "questions.jsonl"),
        "normalize": metric == "acc_norm",
    }
    both = EvaluationSection.model_validate(
        {"general": [entry(folder, "questions", metric=metric).model_dump(), ours]}
    )
    model, tokenizer = pair
    found = Suite(both, tokenizer).score(model).general
    assert found["questions"].value == expected[f"{metric},none"]
    # lm-eval's is 0 when all are right; of 13 items the two differ by the prior of one.
    error = found["questions"].stderr
    assert error == pytest.approx(expected[f"{metric}_stderr,none"], rel=0.15)
    assert error == found["ours"].stderr
    assert found["questions"].items == found["ours"].items
    assert found["questions"].chance == pytest.approx(1 / 3)
    assert found["ours"].chance == pytest.approx(1 / 3)
    assert (found["questions"].n, found["questions"].metric) == (13, metric)


def test_shots_agree_with_lm_eval_every_time(folder, pair):
    expected = own_results(folder, pair, "shown")
    model, tokenizer = pair
    suite = Suite(section(entry(folder, "shown")), tokenizer)
    for _ in range(2):
        assert suite.score(model).general["shown"].value == expected["acc,none"]


@pytest.mark.parametrize("metric", ["bits_per_byte", "byte_perplexity"])
def test_perplexity_agrees_with_lm_eval(metric, folder, pair):
    expected = own_results(folder, pair, "texts")
    found = score(pair, entry(folder, "texts", metric=metric))["texts"]
    assert found.value == pytest.approx(expected[f"{metric},none"], rel=1e-6)
    assert not found.higher_is_better
    assert len(found.items) == 7
    assert 0 < found.stderr < found.value


def test_our_cross_entropy_is_lm_evals_likelihood_of_whole_texts(folder):
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    model, tokenizer = make_pair("llama")  # its texts begin with a token that is not predicted
    texts = [json.loads(line)["text"] for line in (folder / "texts.jsonl").open()]
    adapter = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=1)
    asked = [Instance("loglikelihood", {}, ("", text), index) for index, text in enumerate(texts)]
    expected = [-loglik for loglik, _ in adapter.loglikelihood(asked)]
    entry = {"name": "t", "kind": "perplexity", "data": str(folder / "texts.jsonl")}
    asked = EvaluationSection.model_validate({"general": [entry]})
    found = Suite(asked, tokenizer).score(model).general["t"]
    sums = [mean * count for mean, count in zip(found.items, found.weights, strict=True)]
    assert sums == pytest.approx(expected, rel=1e-5)
    assert found.value == pytest.approx(sum(expected) / sum(found.weights), rel=1e-5)


@pytest.mark.parametrize("chosen", ["first", "whole"])
def test_generation_agrees_with_lm_eval(chosen, folder, pair):
    expected = own_results(folder, pair, "prompts")
    found = score(pair, entry(folder, "prompts", metric=f"exact_match,{chosen}"))["prompts"]
    assert found.value == pytest.approx(expected[f"exact_match,{chosen}"])


@pytest.mark.parametrize("group", ["both", "alike"])
def test_groups_agree_with_lm_eval(group, folder, pair):
    expected = own_results(folder, pair, group)
    found = score(pair, entry(folder, group))[group]
    assert found.value == pytest.approx(expected["acc,none"])
    assert found.n == 16


def test_limit_and_chat_reach_lm_eval(folder, pair):
    expected = own_results(
        folder, pair, "questions", limit=5, apply_chat_template=True, fewshot_as_multiturn=True
    )
    found = score(pair, entry(folder, "questions", limit=5, chat=True))["questions"]
    assert (found.value, found.n) == (expected["acc,none"], 5)


def test_forgetting_of_a_task_is_paired(folder):
    base, tokenizer = make_pair("llama")
    suite = Suite(section(entry(folder, "questions")), tokenizer)
    before = suite.score(base)
    other, _ = make_pair("gpt2")
    lost = forgetting(before, suite.score(other))["questions"]
    assert lost.paired
    assert lost.stderr > 0


def test_the_jackknife_is_the_metric_and_its_error():
    from lm_eval.api.metrics import mean, perplexity

    rng = random.Random(1)
    values = [rng.gauss(-2, 0.4) for _ in range(80)]
    assert task_items(values, mean) == values
    items = task_items(values, perplexity)
    assert len(items) == 80
    assert sum(items) / 80 == pytest.approx(perplexity(values))
    # The delta method: the error of exp(-m) is exp(-m) times that of m.
    average = sum(values) / 80
    spread = (sum((value - average) ** 2 for value in values) / 79 / 80) ** 0.5
    found = (sum((item - perplexity(values)) ** 2 for item in items) / 79 / 80) ** 0.5
    assert found == pytest.approx(spread * perplexity(values), rel=0.01)
    assert len(task_items([*values] * 3, perplexity)) == 100


BAD = [
    ({"task": "none", "include_path": None}, r"x\.task: is not a task or group of lm-eval"),
    ({"metric": "acurracy"}, r"x\.metric: is not a metric of questions; it has acc, acc_norm"),
    ({"metric": "acc,strict"}, r"x\.metric: is not a filter of the task; it has none"),
    ({"include_path": "/no/such/folder"}, r"x\.include_path: no such file"),
    ({"task": "texts", "metric": "word_perplexity"}, r"x\.metric: has no worst value"),
]


@pytest.mark.parametrize(("settings", "message"), BAD)
def test_what_does_not_run_is_refused(settings, message, folder):
    with pytest.raises(ConfigError, match=message):
        check_evaluation(entry(folder, "questions", **settings), "x")


@pytest.mark.parametrize("suite", ["paper-general", "paper-knowledge", "lora-paper", "sdft"])
def test_lm_eval_knows_the_tasks_of_the_shipped_suites(suite):
    made = EvaluationSection.model_validate({"general": [suite]})
    for path, each in made.places():
        known_harness(each, path)


def broken(folder, **settings):
    data = folder / "data.jsonl"
    data.write_text('{"question": "q", "choices": ["a", "b"], "answer": 0}\n')
    made = task("broken", data, output_type="generate_until", doc_to_text="{{question}}")
    made |= {"doc_to_target": "{{answer}}", "metric_list": metrics("exact_match")} | settings
    (folder / "broken.yaml").write_text(yaml.safe_dump(made))
    return entry(folder, "broken")


BROKEN = [
    ({"doc_to_text": "{{question.no.such}}"}, "cannot be loaded: UndefinedError"),
    ({"dataset_kwargs": {"data_files": {"test": "none.jsonl"}}}, "cannot be loaded: FileNotFound"),
    ({"generation_kwargs": {"until": ["."], "do_sample": True}}, "samples its answers"),
    ({"unsafe_code": True}, "HF_ALLOW_CODE_EVAL=1"),
    ({"metric_list": [{"metric": "none"}]}, "cannot be loaded"),
]


@pytest.mark.parametrize(("settings", "message"), BROKEN)
def test_a_broken_task_is_refused(settings, message, tmp_path, monkeypatch):
    monkeypatch.delenv("HF_ALLOW_CODE_EVAL", raising=False)
    with pytest.raises(ConfigError, match=message):
        check_evaluation(broken(tmp_path, **settings), "x")


def test_any_error_of_a_tasks_own_code_is_a_configuration_error(tmp_path):
    evaluation = broken(tmp_path)
    (tmp_path / "own.py").write_text(
        "class OddError(Exception): ...\n\n\ndef shown(doc):\n    raise OddError('as planned')\n"
    )
    file = tmp_path / "broken.yaml"
    file.write_text(file.read_text().replace("'{{question}}'", "!function own.shown"))
    with pytest.raises(ConfigError, match="OddError: as planned"):
        check_evaluation(evaluation, "x")


def test_without_the_extra_it_is_told(folder, monkeypatch):
    monkeypatch.setattr("hft_ray.evaluation.harness.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r'x\.kind: needs the extra .*pip install "hft-ray\['):
        check_evaluation(entry(folder, "questions", limit=12), "x")


def test_the_key_knows_the_tasks_data(tmp_path):
    def key():
        return BaseScores(tmp_path).key("w", section(entry(tmp_path, "broken")), "float32")

    broken(tmp_path)
    first = key()
    assert key() == first
    broken(tmp_path, doc_to_text="Say {{question}}")
    assert key() != first
    broken(tmp_path)
    assert key() == first
    record = {"question": "other", "choices": ["a", "b"], "answer": 0}
    (tmp_path / "data.jsonl").write_text(json.dumps(record) + "\n")
    assert key() != first
