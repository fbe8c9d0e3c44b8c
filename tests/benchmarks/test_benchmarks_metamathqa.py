"""PEFT's comparison of methods: its data, its two metrics, and a FILE that ``plan`` accepts."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import pytest
import torch
import yaml
from metamathqa import TEMPLATE, articles, questions, training, write

from hft_ray.config import EvaluationSection
from hft_ray.config.load import load
from hft_ray.evaluation import Suite
from hft_ray.evaluation.text_metrics import extracted, number_match
from hft_ray.ranks import Ranks
from hft_ray.training import Workspace, check
from hft_ray.training.methods import known_sequences
from hft_ray.training.plan import plan

FILE = Path(__file__).parents[2] / "search_spaces" / "metamathqa_llama3.2_3b.yaml"
QUERY = "What is {x} + 2?"  # braces as in LaTeX
ROWS = [{"query": QUERY, "response": f"x is {n}.\nThe answer is: {n + 2}"} for n in range(8)]
SOLVED = [
    {"question": f"What is {n} + 2?", "answer": f"{n} + 2 = {n + 2}\n#### {n + 2}"}
    for n in range(8)
]
WIKI = [{"text": "The capital of France is Paris. " * n} for n in (1, 40, 90)]
DEMO = str(files("hft_ray") / "demo" / "model")


@pytest.fixture(scope="module")
def tokenizer():
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(DEMO)


@pytest.fixture
def data(tmp_path, monkeypatch, tokenizer):
    """The three files that the FILE names, small, below the working directory."""
    folder = tmp_path / "metamathqa"
    write(folder / "train.jsonl", training(ROWS))
    write(folder / "gsm8k.jsonl", questions(SOLVED))
    write(folder / "finewiki.jsonl", articles(WIKI, tokenizer, 128))
    monkeypatch.chdir(tmp_path)
    return folder


def test_records_are_those_of_the_comparison():
    long = {"query": "q", "response": "r" * 1299}  # 1,301 characters with the space
    (first, *rest) = training([ROWS[0], long, {"query": "q", "response": "r" * 1298}])
    assert first["text"] == (
        "Question: What is {x} + 2? Think step by step.\nAnswer:x is 0.\nThe answer is: 2"
    )
    assert len(rest) == 1
    (solved,) = questions([{"question": "q?", "answer": "5 * 2 = <<5*2=10>>10\n#### 10"}])
    assert solved == {"prompt": TEMPLATE.format(query="q?"), "answer": "10"}


def test_articles_are_cut_to_so_many_tokens(tokenizer):
    cut = [each["text"] for each in articles(WIKI, tokenizer, 50)]
    counts = [len(tokenizer(text).input_ids) for text in cut]
    assert cut[0] == WIKI[0]["text"].rstrip() or cut[0] == WIKI[0]["text"]
    assert counts[1:] == [50, 50]
    assert all(whole["text"].startswith(text) for whole, text in zip(WIKI, cut, strict=True))


@pytest.mark.parametrize(
    ("said", "number"),
    [
        ("4 + 2 = 6. The answer is: 6", "6"),
        ("The answer is 5, or rather. The answer is: 6.", "6"),
        ("So the final sum is. The final answer is 12.5%.", "12.5"),
        ("#### 7", "7"),
        ("The answer is: 8\nQuestion: and 9?", "8"),
        ("It is 6", None),
        ("The answer is: six", None),
        ("", None),
    ],
)
def test_an_answer_is_found_where_the_comparison_looks_for_it(said, number):
    (gsm8k,) = load(FILE).evaluation.task
    found = extracted(gsm8k.extract, said)
    assert number_match(found, number or "6") == float(number is not None)
    assert number_match(found, "99") == 0.0


def test_both_metrics_are_what_direct_computation_gives(data, tokenizer):
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(DEMO, dtype=torch.float32).eval()
    section = yaml.safe_load(FILE.read_text(encoding="utf-8"))["evaluation"]
    # The demo's model says nothing like "The answer is": what it says counts as it is.
    del section["task"][0]["extract"]
    section["task"][0]["max_new_tokens"] = 6
    scored = Suite(EvaluationSection.model_validate(section), tokenizer).score(model)

    losses: list[float] = []
    for record in articles(WIKI, tokenizer, 128):
        ids = torch.tensor([tokenizer(record["text"]).input_ids])
        with torch.no_grad():
            logits = model(ids).logits[0, :-1]
        losses += torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="none").tolist()
    mean = sum(losses) / len(losses)
    assert scored.general["finewiki"].value == pytest.approx(mean, rel=1e-5)

    right = []
    for record in questions(SOLVED):
        ids = torch.tensor([tokenizer(record["prompt"]).input_ids])
        with torch.no_grad():
            said = model.generate(ids, max_new_tokens=6, do_sample=False)[0, ids.shape[1] :]
        right.append(
            number_match(tokenizer.decode(said, skip_special_tokens=True), record["answer"])
        )
    assert scored.task["gsm8k"].items == tuple(right)


def test_the_file_is_planned(data, tmp_path):
    config = load(FILE)
    workspace = Workspace(tmp_path, Ranks(), torch.device("cpu"))
    check(config, workspace, FILE.stem, trust_hub=True)
    planned = plan(config, workspace, known_sequences(config))
    assert planned["model"]["parameters"] == 3_212_749_824  # as on the model's card: 3.21B
    assert config.training.steps * config.training.batch_size == 20_000
