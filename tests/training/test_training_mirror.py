"""Checkpoints when their storage is lost, damaged, full, closed or away."""

from __future__ import annotations

import pytest
from servers import ObjectStore

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def found(jobs, tiny_file, tmp_path_factory):
    """What every case of ``mirror_jobs.py`` came to."""
    folder = tmp_path_factory.mktemp("mirror")
    training = tiny_file["training"] | {"steps": 6, "checkpoint_every": 2, "checkpoints_kept": 2}
    file = tiny_file | {"training": training}
    evaluation = tiny_file["evaluation"]
    file["evaluation"] = evaluation | {"task": [], "general": evaluation["general"][:1]}
    server = ObjectStore()
    job = {
        "name": "storage",
        "ranks": 1,
        "do": "mirror_jobs.storage",
        "with": {"file": file, "out": str(folder)},
        "environment": server.environment,
    }
    try:
        done = jobs.run(folder, [job])
    finally:
        server.close()
    return done.result("storage")


def test_a_run_whose_folder_is_lost_goes_on_from_s3(found):
    lost = found["lost"]
    assert lost["stopped"]["steps"] == [1, 2, 3, 4, 5]
    assert lost["names"] == ["step-00000002", "step-00000004"]
    assert lost["resumed"]["steps"] == [5, 6]
    assert lost["resumed"]["losses"] == lost["undisturbed"]["losses"][4:]


def test_a_damaged_object_is_noticed_and_the_checkpoint_before_is_used(found):
    damaged = found["lost"]["damaged"]
    assert damaged["steps"] == [3, 4, 5, 6]
    assert damaged["losses"] == found["lost"]["undisturbed"]["losses"][2:]
    assert any("state-00000-00000.safetensors is damaged" in line for line in damaged["told"])
    assert found["lost"]["local"] == ["step-00000002", "step-00000004"]


def test_a_full_disk_fails_the_run_and_what_was_saved_serves(found):
    failed = found["full"]["failed"]
    assert failed["fault"] == "storage_full"
    assert "make room under the storage root" in failed["reason"]
    assert failed["whole"].endswith("step-00000002")
    assert found["full"]["afterwards"]["steps"] == [3, 4, 5, 6]


def test_a_folder_that_may_not_be_written_fails_the_run_and_what_was_saved_serves(found):
    failed = found["closed"]["failed"]
    assert "Permission denied" in failed["reason"]
    assert "/closed" in failed["reason"]
    assert failed["whole"].endswith("step-00000002")
    assert found["closed"]["afterwards"]["steps"] == [3, 4, 5, 6]


def test_a_mirror_that_is_away_fails_the_run_and_what_was_saved_serves(found):
    midway, fresh = found["away"]["midway"], found["away"]["fresh"]
    assert midway["fault"] == fresh["fault"] == "storage"
    assert "s3://hft/away: step-00000004 cannot be written" in midway["reason"]
    assert "the storage did not answer" in midway["reason"]
    # The folder has what the mirror did not get.
    assert midway["whole"].endswith("step-00000004")
    assert fresh["steps"] == []
