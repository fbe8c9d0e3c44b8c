"""What a machine has room and time for."""

import pytest
import yaml

from hft_ray.scaffold.file_text import Line, file_text
from hft_ray.scaffold.machine import Machine, Work, find_room, learning_rates, trials_within

GIB = 2**30
CPU = Machine(gpus=0, gpu_bytes=0, cores=4, bytes=16 * GIB)
GPUS = Machine(gpus=4, gpu_bytes=80 * GIB, cores=32, bytes=256 * GIB)


def needs(plain, recomputed, lean, divided=10**15):
    """Return what a worker takes, by the settings."""

    def memory(settings):
        if settings.get("training.zero_stage") == 3:
            return divided
        if "training.optimizer_states" in settings:
            return lean
        return recomputed if settings else plain

    return memory


@pytest.mark.parametrize(("each", "groups"), [(1, 4), (3, 3), (6, 1), (10, 1)])
def test_trials_on_a_cpu_share_its_memory(each, groups):
    room = find_room(CPU, needs(each * GIB, 0, 0))
    assert room is not None
    assert (room.groups, room.workers, room.settings) == (groups, 1, {})


def test_room_is_made_by_the_cheapest_means():
    found = [
        find_room(GPUS, needs(*(size * GIB for size in sizes)))
        for sizes in [(40, 30, 20), (90, 70, 50), (90, 85, 50)]
    ]
    assert [sorted(each.settings) for each in found if each] == [
        [],
        ["training.gradient_checkpointing"],
        ["training.adam_betas", "training.gradient_checkpointing", "training.optimizer_states"],
    ]
    assert all(each is not None and each.groups == 4 for each in found)


def test_a_model_that_fits_no_device_is_divided():
    room = find_room(GPUS, needs(300 * GIB, 250 * GIB, 100 * GIB, 60 * GIB))
    assert room is not None
    assert (room.groups, room.workers) == (1, 4)
    assert room.settings["training.zero_stage"] == 3


def test_no_room():
    assert find_room(GPUS, needs(*[400 * GIB] * 4)) is None
    assert find_room(CPU, needs(*[40 * GIB] * 3)) is None


def test_trials_within_a_time():
    assert trials_within(2, 600, 4) == 48
    assert trials_within(0.1, 600, 4) == 0


def test_work_grows_with_what_is_done():
    small = Work(10**8, 10_000, 5_000, 0, 10, 5).seconds(CPU, 1)
    assert Work(10**8, 20_000, 5_000, 0, 20, 5).seconds(CPU, 1) > small
    assert Work(10**8, 10_000, 5_000, 900, 10, 50).seconds(CPU, 1) > small
    assert Work(10**8, 10_000, 5_000, 0, 10, 5).seconds(CPU, 2) < small


def test_larger_models_take_lower_rates():
    rates = [learning_rates(size) for size in (10**6, 10**8, 7 * 10**9)]
    assert rates == sorted(rates, reverse=True)


@pytest.mark.parametrize(
    "value",
    [
        *("plain", "a/b.jsonl", "package:a/b", "yes", "1.0", "a: b", "a:", "- x", "", "*a", "#"),
        *("Zürich", "null", "1e5", True, 3, 2e-6, 1.5e-4, 0.5, 1e20, ["a", "no"], {"low": 1e-5}),
    ],
)
def test_values_are_read_as_they_were(value):
    text = file_text("head", [Line("section.key", value, "why"), Line("other", 1, "why not")])
    assert yaml.safe_load(text) == {"section": {"key": value}, "other": 1}


def test_sections_and_their_parts_stand_together():
    lines = [
        Line("name", "x", "a"),
        Line("search.trials", 8, "b"),
        Line("search.objectives.task/score", "max", "c"),
        Line("search.space.selection.ratio", {"low": 0.1, "high": 1.0}, "d"),
        Line("search.space.training.learning_rate", {"low": 1e-5, "high": 1e-3}, "e"),
    ]
    assert yaml.safe_load(file_text("", lines)) == {
        "name": "x",
        "search": {
            "trials": 8,
            "objectives": {"task/score": "max"},
            "space": {
                "selection.ratio": {"low": 0.1, "high": 1.0},
                "training.learning_rate": {"low": 1e-5, "high": 1e-3},
            },
        },
    }
