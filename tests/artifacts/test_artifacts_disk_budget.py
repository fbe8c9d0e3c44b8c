"""The disk budget of a sweep's kept weights."""

from __future__ import annotations

import multiprocessing

import pytest

from hft_ray.artifacts import DiskBudget, size_of


@pytest.fixture
def budget(tmp_path):
    """1,000 bytes for two trials, of which 300 are taken."""
    folder = tmp_path / "weights"
    (folder / "t0" / "final").mkdir(parents=True)
    (folder / "t0" / "final" / "a").write_bytes(bytes(300))
    return DiskBudget(folder, 1000, 2)


def test_every_claim_leaves_room_for_the_final_models_of_trials_under_way(budget):
    assert size_of(budget.folder) == 300
    assert budget.room_for_final() == 700
    assert budget.room_for_intermediate(200) == 700 - 2 * 200
    assert budget.room_for_ended(200, intermediate=False) == 1000 - 2 * 200
    assert budget.room_for_ended(200, intermediate=True) == 1000 - 3 * 200


def test_a_folder_that_is_not_there_takes_nothing(tmp_path):
    assert DiskBudget(tmp_path / "none", 10, 1).room_for_final() == 10


def _hold(budget, held, release):
    with budget.locked():
        held.set()
        assert release.wait(60)


def test_one_process_writes_at_a_time(budget):
    context = multiprocessing.get_context("fork")
    events = [[context.Event(), context.Event()] for _ in range(2)]
    one, other = (context.Process(target=_hold, args=(budget, *each)) for each in events)
    (held, release), (held_by_other, release_other) = events
    release_other.set()
    one.start()
    assert held.wait(60)
    other.start()
    assert not held_by_other.wait(0.3)
    release.set()
    assert held_by_other.wait(60)
    for process in (one, other):
        process.join()
        assert process.exitcode == 0
