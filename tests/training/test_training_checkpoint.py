"""Checkpoints: written in the background, each rank its part, and read once by all together."""

from __future__ import annotations

import threading

import pytest
import torch
from checkpoint_jobs import LENGTHS, manifest, numbers, parts
from hypothesis import given
from hypothesis import strategies as st

from hft_ray.ranks import Ranks
from hft_ray.training import checkpoint_writer as module
from hft_ray.training.checkpoint import CheckpointError, checkpoints
from hft_ray.training.checkpoint_reader import CheckpointReader
from hft_ray.training.checkpoint_writer import checkpoint_writer
from hft_ray.training.partitioned import share
from hft_ray.training.tensor_parts import joined, part_name, place

CPU = torch.device("cpu")


@given(st.integers(0, 40), st.integers(1, 9))
def test_the_shares_of_all_ranks_are_everything_once(length, size):
    shares = [share(length, Ranks(rank, size)) for rank in range(size)]
    assert [place for each in shares for place in each] == list(range(length))
    assert all(len(each) <= -(-length // size) for each in shares)


@given(st.lists(st.integers(1, 5), min_size=1, max_size=6), st.randoms())
def test_parts_in_any_order_are_the_tensor(lengths, random):
    tensor = torch.arange(sum(lengths))
    starts = [sum(lengths[:number]) for number in range(len(lengths))]
    found = [
        (part_name("weight/a@b", start), tensor[start : start + length])
        for start, length in zip(starts, lengths, strict=True)
    ]
    random.shuffle(found)
    assert joined(found)["weight/a@b"].tolist() == tensor.tolist()


@pytest.mark.parametrize("starts", [(0, 2), (0, 4)])
def test_parts_that_do_not_meet_are_refused(starts):
    with pytest.raises(ValueError, match=f"the parts of a at 0 and {starts[1]} do not meet"):
        joined((part_name("a", start), torch.zeros(3)) for start in starts)


def test_a_whole_tensor_is_a_part_that_starts_at_0():
    assert place("weight/model.norm") == ("weight/model.norm", 0)
    assert place("weight/model.norm@12") == ("weight/model.norm", 12)


@pytest.fixture
def slow(monkeypatch):
    """Writing waits for this event; ``slow.begun`` is set when it has begun."""
    event, plain = threading.Event(), module.write_tensors
    event.begun = threading.Event()

    def write(*arguments):
        event.begun.set()
        assert event.wait(30)
        return plain(*arguments)

    monkeypatch.setattr(module, "write_tensors", write)
    return event


def test_training_goes_on_while_a_checkpoint_is_written(tmp_path, slow):
    tensor, saved = torch.zeros(5), []
    with checkpoint_writer(tmp_path, 2, Ranks(), saved=saved.append) as writer:
        writer.save(manifest(1), [("weight/a@0", tensor)])
        assert slow.begun.wait(30)
        tensor += 1  # a step
        assert not checkpoints(tmp_path) and not saved
        slow.set()
    assert saved == [1]
    found = CheckpointReader(Ranks(), CPU).read(tmp_path / "step-00000001")
    assert found.state["weight/a"].tolist() == [0.0] * 5


def test_the_next_checkpoint_waits_and_is_another_copy(tmp_path):
    tensor = torch.zeros(5)
    with checkpoint_writer(tmp_path, 2, Ranks()) as writer:
        for step in range(1, 4):
            tensor += 1
            writer.save(manifest(step), [("weight/a@0", tensor)])
    assert [path.name for path in checkpoints(tmp_path)] == ["step-00000003", "step-00000002"]
    for step in (2, 3):
        found = CheckpointReader(Ranks(), CPU).read(tmp_path / f"step-{step:08d}")
        assert found.state["weight/a"].tolist() == [float(step)] * 5


@pytest.mark.parametrize("when", ["at the next one", "at the end"])
def test_an_error_is_raised_by_the_next_call_and_leaves_nothing(tmp_path, monkeypatch, when):
    def failing(*arguments):
        raise OSError(28, "No space left on device")

    with checkpoint_writer(tmp_path, 2, Ranks()) as writer:
        writer.save(manifest(1), parts(Ranks()))
    monkeypatch.setattr(module, "write_tensors", failing)
    with (
        pytest.raises(OSError, match="No space left"),
        checkpoint_writer(tmp_path, 2, Ranks()) as writer,
    ):
        writer.save(manifest(2), parts(Ranks()))
        if when == "at the next one":
            writer.save(manifest(3), parts(Ranks()))
            raise AssertionError("the error was not raised")
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]


def test_a_folder_that_ranks_do_not_share_is_refused(tmp_path, monkeypatch):
    plain = module.write_tensors
    elsewhere = {"state-00001-00000.safetensors": "0" * 64}
    monkeypatch.setattr(module, "write_tensors", lambda *given: plain(*given) | elsewhere)
    with (
        pytest.raises(CheckpointError, match="lacks state-00001-00000"),
        checkpoint_writer(tmp_path, 2, Ranks()) as writer,
    ):
        writer.save(manifest(1), parts(Ranks()))
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def both(lives):
    """What two ranks wrote and read, rank by rank."""
    assert lives.codes("checkpoints") == [0, 0], lives.log("checkpoints")
    return [lives.result("checkpoints", rank) for rank in range(2)]


def test_every_rank_gets_what_it_holds(both):
    for rank, found in enumerate(both):
        for name, length in LENGTHS.items():
            whole, span = numbers(name).tolist(), share(length, Ranks(rank, 2))
            assert found["whole"][f"weight/{name}"] == whole
            part = found["partitioned"].get(f"weight/{name}", [])
            assert part == whole[span.start : span.stop]
        assert found["whole"][f"random/{rank}"] == [[rank] * 3] * 2


def test_each_file_is_read_once_in_the_whole_group(both):
    read = [name for found in both for name in found["read"]]
    assert sorted(read) == ["state-00000-00000.safetensors", "state-00001-00000.safetensors"]


def test_one_rank_reads_what_two_have_written(lives, both):
    reader = CheckpointReader(Ranks(), CPU, {name: range(x) for name, x in LENGTHS.items()})
    found = reader.read(lives.folder / "checkpoints" / "step-00000001")
    for name in LENGTHS:
        assert found.state[f"weight/{name}"].tolist() == numbers(name).tolist()
    assert sorted(found.beside) == ["random/0", "random/1"]


def test_every_rank_hears_of_a_file_that_one_reads_damaged(both):
    one, other = (found["damaged"] for found in both)
    assert one == other
    step, problems = one
    assert step == 1
    assert "step-00000002: state-00001-00000.safetensors is damaged" in problems[0]


def test_every_rank_hears_of_a_part_that_one_cannot_write(both):
    one, other = (found["unwritten"] for found in both)
    assert one == other
    assert one["full"] == "OSError: [Errno 28] No space left on device"
    assert one["of native code"] == "RuntimeError: ValueError: No space left on device"
    assert one["of an artifact"] == "ArtifactError: not here"
    assert one["left"] == "step-00000001, step-00000002"
