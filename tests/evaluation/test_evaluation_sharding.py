"""Scores depend neither on the batch size, nor on the number of ranks, nor on ZeRO-3."""

from pathlib import Path

import pytest
import torch
from evaluation_models import make_pair, make_section, moved, with_batch_size, with_tasks

from hft_ray.evaluation import Scores, Suite
from hft_ray.evaluation.sharding import map_batches, sorted_batches
from hft_ray.ranks import Ranks


def assert_same(found, expected):
    for part in ("task", "general"):
        pairs = zip(getattr(found, part).items(), getattr(expected, part).items(), strict=True)
        for (name, one), (other_name, other) in pairs:
            assert name == other_name
            if one.metric in ("cross_entropy", "kl", "bits_per_byte"):
                assert one.items == pytest.approx(other.items, rel=1e-5, abs=1e-6)
                assert one.value == pytest.approx(other.value, rel=1e-5)
            else:
                assert one == other


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_the_batch_size_changes_nothing(kind, tmp_path):
    model, tokenizer = make_pair(kind)
    tuned = moved(model)
    section = with_tasks(tmp_path, make_section(tmp_path, model, tokenizer))
    suite = Suite(section, tokenizer)
    base = suite.score(model)
    assert 0 < base.task["prompts"].value < 1
    expected = suite.score(tuned, base=base)
    assert expected.general["moved"].value > 0.1
    for batch_size in (1, 3, 16):
        other = Suite(with_batch_size(section, batch_size), tokenizer)
        again = other.score(model)
        assert_same(again, base)
        assert_same(other.score(tuned, base=again), expected)


def test_a_suite_scores_again_and_again(tmp_path):
    model, tokenizer = make_pair("llama")
    suite = Suite(make_section(tmp_path, model, tokenizer), tokenizer)
    first = suite.score(model)
    with torch.no_grad():
        model.lm_head.weight.mul_(1.5)
    changed = suite.score(model)
    assert changed.general["texts"].value != first.general["texts"].value
    with torch.no_grad():
        model.lm_head.weight.div_(1.5)
    assert_same(suite.score(model), first)


def test_batches_are_of_like_length_and_the_longest_come_first():
    # Room for 18 tokens: two of 9, and then six of 3.
    assert sorted_batches([3, 9, 3, 1, 9], 2) == [[1, 4], [0, 2, 3]]
    assert sorted_batches([9, 4, 3, 3, 2, 1], 1) == [[0], [1, 2], [3, 4, 5]]
    assert sorted_batches([], 2) == []


def test_results_are_in_order():
    lengths = [3, 9, 3, 1, 9, 2, 2]
    assert map_batches(lambda batch: [10 * i for i in batch], lengths, 3, Ranks()) == [
        0, 10, 20, 30, 40, 50, 60,
    ]  # fmt: skip


@pytest.mark.cluster
def test_two_ranks_and_zero_3_give_the_scores_of_one_process(jobs, tmp_path):
    model, tokenizer = make_pair("llama")
    section = with_tasks(tmp_path, make_section(tmp_path, model, tokenizer))
    section = with_batch_size(section, 4)
    suite = Suite(section, tokenizer)
    alone = suite.score(moved(model), base=suite.score(model))
    job = {
        "name": "scores",
        "ranks": 2,
        "path": str(Path(__file__).parent),
        "do": "sharding_jobs.scores",
        "with": {"section": section.model_dump_json()},
    }
    done = jobs.run(tmp_path, [job])
    assert done.codes("scores") == [0, 0], done.log("scores")
    for rank in (0, 1):
        told = done.result("scores", rank)
        assert Scores.from_json(told["plain"]) == alone, "equal batches give equal bits"
        assert_same(Scores.from_json(told["zero3"]), alone)
        assert told["partitioned"]
