"""Which kept weights stay: those of the front, of that what the budget holds."""

from __future__ import annotations

import pytest

from hft_ray.artifacts import DiskBudget, size_of
from hft_ray.orchestration.kept_weights import KeptWeights
from hft_ray.pareto import Point, build_front

TWO = {"task/score": "max", "forgetting/mean": "min"}
SIZE = 1000


def make_front(*rows):
    """Rows: trial, variant, score, forgetting, and a state that is not complete."""
    points = [
        Point(
            trial,
            variant,
            None,
            *(state or ["complete"]),
            8,
            {},
            {"task/score": score, "forgetting/mean": lost},
        )
        for trial, variant, score, lost, *state in rows
    ]
    return build_front("s", TWO, points, {}, {"task/score": 0.0, "forgetting/mean": 1.0})


@pytest.fixture
def folder(tmp_path):
    """``folder(*names)``: make kept weights such as ``t0/final``; return their folder."""

    def make(*names):
        for name in names:
            (tmp_path / "weights" / name).mkdir(parents=True)
            (tmp_path / "weights" / name / "state-00000.safetensors").write_bytes(bytes(SIZE))
        return tmp_path / "weights"

    return make


def there(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.glob("*/*"))


FRONT = make_front(
    ("t0", None, 0.5, 0.5),
    ("t0", "alpha-0.5", 0.4, 0.1),
    ("t0", "step-4", 0.45, 0.6),
    ("t1", None, 0.9, 0.9),
    ("t1", "step-2", 0.6, 0.4),
    ("t1", "reset-0.5", 0.3, 0.3),
    ("t2", None, 0.1, 0.9),
    ("t3", None, 0.0, 0.0, "failed"),
    ("t3", "step-4", 0.2, 0.05),
)
ALL = ("t0/final", "t0/step-4", "t1/final", "t1/step-2", "t2/final", "t3/step-4", "t3/.final-x")


def test_what_no_point_of_the_front_is_made_from_is_deleted(folder):
    kept = KeptWeights(folder(*ALL))
    states = kept.prune(FRONT, ["t0", "t1", "t2", "t3"])
    # t0's last model is dominated, its average is not.
    assert there(folder()) == ["t0/final", "t1/final", "t1/step-2", "t3/step-4"]
    assert not (folder() / "t2").exists()
    assert states == {
        ("t0", None): "kept",
        ("t0", "alpha-0.5"): "kept",
        ("t0", "step-4"): "deleted: dominated",
        ("t1", None): "kept",
        ("t1", "step-2"): "kept",
        ("t1", "reset-0.5"): "kept",
        ("t2", None): "deleted: dominated",
        ("t3", "step-4"): "kept",
    }


def test_trials_under_way_are_left_alone(folder):
    kept = KeptWeights(folder(*ALL), DiskBudget(folder(), 1, 1))
    states = kept.prune(FRONT, ["t1"])
    # Of t1 one remains, however small the budget.
    assert [name for name in there(folder()) if not name.startswith("t1")] == sorted(
        name for name in ALL if not name.startswith("t1")
    )
    assert len([name for name in there(folder()) if name.startswith("t1")]) == 1
    assert {trial for trial, _ in states} == {"t1"}


def test_over_the_budget_goes_what_adds_least_to_the_hypervolume(folder):
    ended = ["t0", "t1", "t2", "t3"]
    # Room for one trial that writes: 3 x 1,000 bytes of the 4 stay.
    kept = KeptWeights(folder(*ALL), DiskBudget(folder(), 4 * SIZE, 1))
    states = kept.prune(FRONT, ended)
    # t1 step-2 adds 0.2 x 0.5, t1 final 0.3 x 0.1, t3 0.2 x 0.05, t0's average 0.2 x 0.3.
    assert there(folder()) == ["t0/final", "t1/final", "t1/step-2"]
    assert states["t3", "step-4"] == "deleted: disk budget"
    assert size_of(folder()) == 3 * SIZE
    # The largest seen so far decides what room is left, also when nothing so large is left.
    (folder() / "t4" / "final").mkdir(parents=True)
    (folder() / "t4" / "final" / "x").write_bytes(bytes(2 * SIZE))
    for _ in range(2):
        kept.prune(FRONT, [*ended, "t4"])
        assert there(folder()) == ["t0/final", "t1/step-2"]


def test_nothing_kept_is_nothing_to_prune(tmp_path):
    folder = tmp_path / "weights"
    kept = KeptWeights(folder, DiskBudget(folder, 10, 1))
    states = kept.prune(FRONT, ["t0", "t1"])
    assert states["t1", None] == "deleted: disk budget"


def test_what_became_of_weights_that_are_gone_is_returned_once(folder):
    kept = KeptWeights(folder(*ALL))
    ended = ["t0", "t1", "t2", "t3"]
    assert kept.prune(FRONT, ended)["t2", None] == "deleted: dominated"
    assert {trial for trial, _ in kept.prune(FRONT, ended)} == {"t0", "t1", "t3"}
    # A better point: the weights of all others go.
    best = make_front(
        *((each.trial, each.variant, *each.values.values()) for each in FRONT.points[:7]),
        ("t4", None, 0.95, 0.0),
    )
    (folder() / "t4" / "final").mkdir(parents=True)
    states = kept.prune(best, [*ended, "t4"])
    assert states["t4", None] == "kept"
    assert {state for (trial, _), state in states.items() if trial != "t4"} == {
        "deleted: dominated"
    }
    assert list(kept.prune(best, [*ended, "t4"])) == [("t4", None)]
