"""Scores depend neither on the batch size, nor on the number of ranks, nor on ZeRO-3."""

import json
import os
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
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
def test_two_ranks_and_zero_3_give_the_scores_of_one_process(tmp_path):
    model, tokenizer = make_pair("llama")
    section = with_tasks(tmp_path, make_section(tmp_path, model, tokenizer))
    section = with_batch_size(section, 4)
    suite = Suite(section, tokenizer)
    alone = suite.score(moved(model), base=suite.score(model))
    mp.spawn(_score_on, args=(str(tmp_path), section.model_dump_json()), nprocs=2)
    for rank in (0, 1):
        told = json.loads((tmp_path / f"rank{rank}.json").read_text())
        assert Scores.from_json(told["plain"]) == alone, "equal batches give equal bits"
        assert_same(Scores.from_json(told["zero3"]), alone)
        assert told["partitioned"]


def _score_on(rank: int, folder: str, section_json: str) -> None:
    """Body of one of two ranks: score sharded, then under ZeRO-3 in lockstep; write both."""
    os.environ["LOCAL_RANK"] = str(rank)
    import deepspeed

    from hft_ray.config import EvaluationSection

    # Compiled at first use for nothing here, and a killed build leaves a stale lock behind.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    torch.set_num_threads(1)
    store = f"file://{folder}/store"
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=2)
    deepspeed.init_distributed("gloo", auto_mpi_discovery=False)
    model, tokenizer = make_pair("llama")
    suite = Suite(EvaluationSection.model_validate_json(section_json), tokenizer)
    base, tuned = suite.score(model, Ranks(rank, 2)), moved(model)
    told = {"plain": suite.score(tuned, Ranks(rank, 2), base).to_json()}
    settings = {
        "train_micro_batch_size_per_gpu": 1,
        "zero_optimization": {"stage": 3, "stage3_param_persistence_threshold": 0},
    }
    engine, *_ = deepspeed.initialize(model=tuned, config=settings)
    told["partitioned"] = all(parameter.numel() == 0 for parameter in tuned.parameters())
    told["zero3"] = suite.score(engine.module, Ranks(rank, 2, lockstep=True), base).to_json()
    Path(folder, f"rank{rank}.json").write_text(json.dumps(told))
    engine.destroy()
    dist.destroy_process_group()
