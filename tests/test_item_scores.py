"""Item scores: what they say of a metric's error, and what they take on disk."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import save

from hft_ray.evaluation import Score, Scores, forgetting, metric_errors, metric_values
from hft_ray.evaluation.score import estimate
from hft_ray.item_scores import (
    Answers,
    ItemScores,
    Sample,
    read_all,
    read_one,
    write_all,
)
from hft_ray.training.answers import item_scores

WEIGHTS = np.random.default_rng(9).integers(5, 50, 12).astype(float)


def scores_of(seed, n=40):
    rng = np.random.default_rng(seed)
    right = (rng.random(n) < 0.7).astype(float)
    loss = rng.gamma(4, 0.8, 12)
    return Scores(
        task={"facts": Score.of("exact_match", right.tolist(), worst=0.0)},
        general={
            "old": Score.of("exact_match", (rng.random(n) < 0.6).astype(float), worst=0.0),
            "text": Score.of("cross_entropy", loss.tolist(), worst=9.0, weights=WEIGHTS.tolist()),
        },
    )


def sample_of(base):
    found = item_scores(base, base, metric_values)
    weights = {"text": np.array(base.general["text"].weights)}
    identities = {name: name for name in found.items}
    return Sample(replace(found, weights=weights, identities=identities))


def test_the_influence_of_items_gives_the_standard_error_of_scores():
    base, current = scores_of(0), scores_of(1)
    answers = Answers(sample_of(base), item_scores(current, base, metric_values))
    told = metric_errors(current, base)
    for metric in ("task/facts", "general/old", "general/text"):
        part, name = metric.split("/")
        score = getattr(current, part)[name]
        found = np.linalg.norm(answers.influence(metric))
        # What is told adds the prior of a share, which no item explains.
        assert found == pytest.approx(estimate(score.items, score.weights).stderr, rel=1e-4)
        assert found == pytest.approx(told[f"stderr/{metric}"], rel=0.05)
    assert len(answers.items) == 40 + 40 + 12
    assert answers.influence("train/loss") is None


def test_what_was_forgotten_is_paired_with_the_base():
    base, current = scores_of(0), scores_of(0)
    answers = Answers(sample_of(base), item_scores(current, base, metric_values))
    assert np.abs(answers.influence("forgetting/old")).max() < 1e-6
    other = scores_of(5)
    answers = Answers(sample_of(base), item_scores(other, base, metric_values))
    expected = forgetting(base, other)["text"].stderr
    assert np.linalg.norm(answers.influence("forgetting/text")) == pytest.approx(expected, rel=0.01)


def test_items_of_one_group_count_as_drawn_together():
    """Four texts of two questions each, both right or both wrong: the error is that of four."""
    x = np.repeat([1.0, 0.0, 1.0, 1.0], 2)
    gradient = np.array([[1.0, 0.0]], dtype=np.float32)
    model = ItemScores({"q": x}, ("task/q",), gradient)
    base = replace(model, groups={"q": np.repeat([7, 3, 9, 1], 2)}, identities={"q": "q"})
    found = Sample(base).influence(model, "task/q")
    assert len(found) == 4
    assert np.linalg.norm(found) == pytest.approx(np.std([1, 0, 1, 1], ddof=1) / np.sqrt(4))


def test_other_items_than_the_bases_say_nothing():
    gradient = np.array([[1.0, 0.0]], dtype=np.float32)
    base = ItemScores({"q": np.zeros(4)}, ("task/q",), gradient, identities={"q": "q"})
    more = ItemScores({"q": np.zeros(5)}, ("task/q",), gradient)
    renamed = ItemScores({"p": np.zeros(4)}, ("task/q",), gradient)
    assert Sample(base).influence(more, "task/q") is None
    assert Sample(base).influence(renamed, "task/q") is None


def test_a_file_gives_back_what_was_written(tmp_path):
    base, current = scores_of(0), scores_of(1)
    models = {"base": sample_of(base).base, "t0001": item_scores(current, base, metric_values)}
    write_all(tmp_path / "scores.safetensors", models)
    found = read_all(tmp_path / "scores.safetensors")
    assert list(found) == ["base", "t0001"]
    assert found["base"].identities == models["base"].identities
    for name, model in models.items():
        assert found[name].metrics == model.metrics
        for evaluation, x in model.items.items():
            assert found[name].items[evaluation] == pytest.approx(x, rel=1e-6)
        assert found[name].gradient == pytest.approx(model.gradient)
    assert found["base"].weights["text"] == pytest.approx(models["base"].weights["text"])


def test_a_file_that_is_missing_is_no_scores(tmp_path, caplog):
    assert read_one(tmp_path / "none.safetensors") is None
    assert read_all(tmp_path / "none.safetensors") == {}
    assert not caplog.records


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x10\x00\x00",
        save({"x": np.zeros(3)}),
        save({"x": np.zeros(3)}, {"models": "no JSON"}),
        save({"x": np.zeros(3)}, {"models": "[1]"}),
        save({"x": np.zeros(3)}, {"models": '{"": {"evaluations": ["q"], "metrics": []}}'}),
    ],
    ids=["empty", "cut", "no facts", "no JSON", "a list", "no tensors"],
)
def test_a_file_that_is_damaged_is_told_and_left_out(tmp_path, caplog, content):
    (tmp_path / "half.safetensors").write_bytes(content)
    assert read_one(tmp_path / "half.safetensors") is None
    assert "half.safetensors is damaged" in caplog.text
    assert read_all(tmp_path / "half.safetensors") == {}


def test_two_thousand_trials_of_two_thousand_items_are_small_and_quick(tmp_path):
    rng = np.random.default_rng(0)
    gradient = np.ones((8, 4), dtype=np.float32)
    metrics = tuple(f"task/{number}" for number in range(8))
    for number in range(2000):
        items = {"facts": rng.random(1500) < 0.5, "text": rng.random(500)}
        model = ItemScores(items, metrics, gradient)
        model.write(tmp_path / f"t{number:04d}" / "final.safetensors")
    files = list(tmp_path.rglob("*.safetensors"))
    assert sum(file.stat().st_size for file in files) < 50e6
    began = time.process_time()
    models = {file.parent.name: read_one(file) for file in files}
    each = time.process_time() - began
    assert len(models) == 2000
    write_all(tmp_path / "all.safetensors", models)
    assert (tmp_path / "all.safetensors").stat().st_size < 50e6
    began = time.process_time()
    assert len(read_all(tmp_path / "all.safetensors")) == 2000
    together = time.process_time() - began
    print(f"read one by one in {each:.2f} s, as one file in {together:.2f} s")
    # A hundred times what it takes: collections of a long test process count too.
    assert max(each, together) < 10
