"""The disk budget of a sweep's kept weights."""

from __future__ import annotations

import multiprocessing
import time

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
    assert budget.room_for_snapshot(200) == 700 - 2 * 200
    assert budget.room_for_ended(200, snapshots=False) == 1000 - 2 * 200
    assert budget.room_for_ended(200, snapshots=True) == 1000 - 3 * 200


def test_a_folder_that_is_not_there_takes_nothing(tmp_path):
    assert DiskBudget(tmp_path / "none", 10, 1).room_for_final() == 10


def _hold(budget, ready):
    with budget.locked():
        ready.set()
        time.sleep(0.5)


def test_one_process_writes_at_a_time(budget):
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    other = context.Process(target=_hold, args=(budget, ready))
    other.start()
    assert ready.wait(30)
    started = time.monotonic()
    with budget.locked():
        assert time.monotonic() - started > 0.2
    other.join()
