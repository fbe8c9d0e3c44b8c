"""When a selection is drawn again, what a run reports of it, and when it reports."""

import pytest
import torch

from hft_ray.config import Config, Model
from hft_ray.ranks import Ranks
from hft_ray.selection import draw
from hft_ray.training import Workspace
from hft_ray.training.schedule import total_steps


def drawn_rounds(runs, case, tiny_models, selection):
    """The hash and fractions of each round, drawn here afresh."""
    workspace = Workspace(runs.folder, Ranks(), torch.device("cpu"))
    catalog = workspace.catalog(Model(name=tiny_models["untied"]))
    count = len(runs.outcome(case)["selection"])
    return [draw(catalog, selection, number) for number in range(count)]


@pytest.mark.parametrize(
    ("case", "steps", "starts"),
    [
        ("never", 7, [0]),
        # 20 examples in batches of 8 are 2.5 steps an epoch: the second begins within the third
        # step, the third after the fifth. 2.5 epochs are 50 / 8 steps, rounded up.
        ("epoch", 7, [0, 3, 5]),
        ("every-3", 7, [0, 3, 6]),
    ],
)
def test_rounds_start_where_reselect_says(one_rank, tiny_models, case, steps, starts):
    outcome = one_rank.outcome(case)
    assert outcome["steps"] == steps
    rounds = outcome["selection"]
    assert [each["step"] for each in rounds] == starts
    assert [each["round"] for each in rounds] == list(range(len(starts)))
    fresh = drawn_rounds(
        one_rank,
        case,
        tiny_models,
        Config.model_fields["selection"].get_default(call_default_factory=True),
    )
    for told, drawn in zip(rounds, fresh, strict=True):
        assert told["hash"] == drawn.hash
        assert told["fractions"] == {
            "matrices": drawn.fractions.matrices,
            "block_parameters": drawn.fractions.block_parameters,
            "model_parameters": drawn.fractions.model_parameters,
        }
    assert len({each["hash"] for each in rounds}) == len(starts)


def test_the_losses_of_equal_schedules_are_equal(one_rank):
    assert one_rank.losses("epoch")[:5] == one_rank.losses("every-3")[:5]
    assert one_rank.losses("never")[:4] == one_rank.losses("every-3")[:4]


def test_the_touched_fraction_grows_with_the_rounds(one_rank):
    never, redrawn = one_rank.outcome("never"), one_rank.outcome("every-3")
    (only,) = never["selection"]
    assert never["touched_fraction"] == only["fractions"]["block_parameters"]
    assert never["touched_fraction"] < redrawn["touched_fraction"] <= 1
    assert redrawn["values"]["selection/touched_fraction"] == redrawn["touched_fraction"]
    assert one_rank.outcome("everything")["touched_fraction"] == 1


def test_both_ranks_draw_the_same(one_rank, two_ranks):
    for stage in range(4):
        one, two = (each.outcome(f"zero{stage}")["selection"] for each in (one_rank, two_ranks))
        for ours, theirs in zip(one, two, strict=True):
            assert ours.pop("distances") == pytest.approx(theirs.pop("distances"), rel=1e-3)
        assert one == two


def test_a_run_stops_when_a_report_asks_for_it(one_rank):
    outcome = one_rank.outcome("stopped")
    assert (outcome["state"], outcome["steps"]) == ("stopped", 3)
    assert one_rank.losses("stopped") == one_rank.losses("never")[:3]


def test_the_last_report_is_told_as_the_last(one_rank):
    assert one_rank.results["stopped"]["last"] == []
    for case in ("never", "epoch", "every-3", "sparse-log"):
        assert one_rank.results[case]["last"] == [one_rank.outcome(case)["steps"]]


def test_losses_are_means_since_the_last_report(one_rank):
    assert one_rank.results["sparse-log"]["reports"] == [3, 6, 7]
    each = one_rank.losses("never")
    expected = [sum(each[0:3]) / 3, sum(each[3:6]) / 3, each[6]]
    assert one_rank.losses("sparse-log") == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("training", "examples", "steps"),
    [
        ({}, 20, 3),
        ({"epochs": 2}, 20, 5),
        ({"epochs": 0.01}, 20, 1),
        ({"epochs": 1}, 16, 2),
        ({"steps": 9}, 20, 9),
        # 1.1 x 100 is a little more than 110 in floating point.
        ({"epochs": 1.1, "batch_size": 10}, 100, 11),
        ({"epochs": 2.3, "batch_size": 10}, 100, 23),
        ({"epochs": 2, "batch_size": 50}, 3, 1),
    ],
)
def test_epochs_become_steps_that_see_every_example(training, examples, steps):
    raw = {"name": "x", "model": "m", "data": {"train": "t"}, "training": training}
    assert total_steps(Config.model_validate(raw).training, examples) == steps
