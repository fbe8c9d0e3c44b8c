"""The exported directory is a Hugging Face model that scores what the run scored last."""

import math

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from hft_ray.config import EvaluationSection
from hft_ray.evaluation import Suite, metric_values
from hft_ray.ranks import Ranks
from hft_ray.training.save_model import save_model

CASES = ("zero0", "zero2", "zero3", "zero3-carry", "tied")


@pytest.mark.parametrize("case", CASES)
def test_the_exported_model_gives_the_last_scores(runs, tiny_file, case):
    folder = runs.folder / case
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    assert model.dtype == torch.float32
    tokenizer = AutoTokenizer.from_pretrained(folder)
    suite = Suite(EvaluationSection.model_validate(tiny_file["evaluation"]), tokenizer)
    scores = metric_values(suite.score(model), None)
    told = runs.outcome(case)["values"]
    assert {"task/answers", "general/texts", "general/questions", "general/score"} <= set(scores)
    assert scores == pytest.approx({name: told[name] for name in scores}, rel=1e-5)
    # It is not the base that is scored here.
    assert abs(told["general/texts"] - runs.outcome(case)["base"]["general/texts"]) > 1e-2


@pytest.mark.parametrize(
    ("known", "eos", "template", "expected"),
    [
        # Nothing to add: the file stays as it is.
        (1, "</s>", None, 1),
        ([1], "</s>", None, [1]),
        ([1, 0], "</s>", "</s>", [1, 0]),
        # A base model with a ChatML template: its EOS is not the end of a turn.
        (1, "</s>", "<pad>", [1, 2]),
        (0, "</s>", "<pad>", [0, 1, 2]),
        (None, "</s>", None, 1),
        (None, None, "<pad>", 2),
        (None, None, None, None),
    ],
)
def test_the_exported_model_ends_where_an_answer_ends(
    known, eos, template, expected, tiny_models, tmp_path
):
    model = AutoModelForCausalLM.from_pretrained(tiny_models["untied"])
    tokenizer = AutoTokenizer.from_pretrained(tiny_models["untied"])
    assert tokenizer.convert_tokens_to_ids(["<s>", "</s>", "<pad>"]) == [0, 1, 2]
    model.generation_config.eos_token_id = known
    model.generation_config.repetition_penalty = 1.25
    tokenizer.eos_token = eos
    if template is not None:
        turn = f"{{{{ m['content'] + '{template}' }}}}"
        tokenizer.chat_template = f"{{% for m in messages %}}{turn}{{% endfor %}}"
    save_model(model, tokenizer, tmp_path / "model", Ranks())
    saved = GenerationConfig.from_pretrained(tmp_path / "model")
    assert saved.eos_token_id == expected
    assert saved.repetition_penalty == 1.25
    assert model.generation_config.eos_token_id == known


def test_forgetting_is_base_minus_current(runs):
    for case in CASES:
        values, base = runs.outcome(case)["values"], runs.outcome(case)["base"]
        lost = {
            # Cross-entropy is better when it is lower: what it rose is lost.
            "texts": values["general/texts"] - base["general/texts"],
            "questions": values["general/questions"] - base["general/questions"],
        }
        for name, expected in lost.items():
            assert values[f"forgetting/{name}"] == pytest.approx(expected)
            assert base[f"forgetting/{name}"] == 0
            assert values[f"retention/{name}"] == pytest.approx(math.exp(-expected))
            assert base[f"retention/{name}"] == 1
        assert values["forgetting/mean"] == pytest.approx(sum(lost.values()) / 2)


def test_a_run_has_all_metrics_of_the_contract(runs):
    values = runs.outcome("zero2")["values"]
    assert {
        "train/loss",
        "train/grad_norm",
        "train/learning_rate",
        "train/tokens_per_second",
        "train/trained_tokens_per_second",
        "task/answers",
        "task/score",
        "general/score",
        "forgetting/mean",
        "retention/mean",
        "selection/trainable_fraction",
        "selection/touched_fraction",
        "cost/device_seconds",
        "cost/peak_memory_bytes",
        "stderr/task/score",
        "stderr/forgetting/mean",
        "stderr/retention/mean",
    } <= set(values)
    assert values["train/tokens_per_second"] > values["train/trained_tokens_per_second"] > 0
    assert values["cost/peak_memory_bytes"] > 1 << 20


def test_two_ranks_cost_at_most_twice_their_time(two_ranks):
    outcome = two_ranks.outcome("zero2")
    # It is told before the last scores, which the wall time holds too.
    assert 0 < outcome["values"]["cost/device_seconds"] <= 2 * outcome["seconds"]


def test_no_half_written_directory_is_left(runs):
    left = [path.name for path in runs.folder.iterdir() if path.name.startswith(".")]
    assert left == []
