"""The picture of one trial's selection: what is drawn, for few and for many rounds."""

from __future__ import annotations

import math
import random
from itertools import pairwise

import matplotlib.image
import pytest
from matplotlib.figure import Figure

from hft_ray.report import selection_png
from hft_ray.report.selection_png import render_selection

CATEGORIES = ("attention", "feed_forward", "norm", "embedding", "head")


def make_rounds(count, every, audit=True):
    rng = random.Random(count)
    moved = dict.fromkeys((*CATEGORIES, "all"), 0.0)
    touched, rounds = 0.0, []
    for number in range(count):
        share = 0.5 + rng.uniform(-0.05, 0.05)
        touched = 1 - (1 - touched) * (1 - share)
        moved = {name: x + rng.uniform(0.001, 0.01) for name, x in moved.items()}
        rounds.append(
            {
                "round": number,
                "step": number * every,
                "hash": "0" * 64,
                "fractions": {
                    "matrices": 0.5,
                    "block_parameters": share,
                    "model_parameters": 0.2 + 0.8 * share,
                },
                "touched_fraction": touched,
                "distances": moved if audit else {},
            }
        )
    return rounds


@pytest.fixture
def drawn(monkeypatch, tmp_path):
    """``drawn(rounds, steps)``: draw; return both axes and the picture."""
    figures = []

    class Kept(Figure):
        def __init__(self, *arguments, **more):
            super().__init__(*arguments, **more)
            figures.append(self)

    monkeypatch.setattr(selection_png, "Figure", Kept)

    def draw(rounds, steps, title="t0003 of demo"):
        path = tmp_path / "selection.png"
        render_selection(rounds, steps, title, path)
        return (*figures[-1].axes, matplotlib.image.imread(path))

    return draw


def lines(axes):
    return {
        line.get_label().partition(":")[0]: list(
            zip(line.get_xdata(), line.get_ydata(), strict=True)
        )
        for line in axes.get_lines()
        if ":" in str(line.get_label())
    }


@pytest.mark.parametrize(("count", "every"), [(1, 60), (3, 7), (50, 10)])
def test_every_number_of_every_round_is_drawn(drawn, count, every):
    rounds = make_rounds(count, every)
    shares, distances, picture = drawn(rounds, count * every)
    assert picture.shape[:2] == (900, 1260)
    ends = [(number + 1) * every for number in range(count)]
    found = lines(distances)
    assert set(found) == {name.replace("_", " ") for name in (*CATEGORIES, "all")}
    for name in (*CATEGORIES, "all"):
        expected = [(0, 0.0), *zip(ends, (e["distances"][name] for e in rounds), strict=True)]
        assert found[name.replace("_", " ")] == expected
    found = lines(shares)
    starts = [each["step"] for each in rounds]
    for label, values in (
        ("layers, ever trained", [each["touched_fraction"] for each in rounds]),
        ("layers, this round", [each["fractions"]["block_parameters"] for each in rounds]),
        ("whole model, this round", [each["fractions"]["model_parameters"] for each in rounds]),
    ):
        # The last value holds until the last step.
        last = (count * every, values[-1])
        assert found[label] == [*zip(starts, values, strict=True), last]
    again = [line for line in shares.get_lines() if list(line.get_xdata()) == [every, every]]
    assert bool(again) == (count > 1)


def test_the_legend_is_sorted_by_what_moved_most_and_tells_values(drawn):
    _, distances, _ = drawn(make_rounds(3, 7), 21)
    texts = [text.get_text() for text in distances.get_legend().get_texts()]
    assert texts[0].startswith("all: ")
    values = [float(text.split(": ")[1]) for text in texts[1:]]
    assert values == sorted(values, reverse=True)
    assert len(values) == len(CATEGORIES)


def test_nothing_is_outside_the_picture_or_over_something_else(drawn):
    for count in (1, 50):
        shares, distances, picture = drawn(make_rounds(count, 10), 10 * count)
        # The outermost pixels are white, but for a title that begins at the very top.
        assert picture[:, 0, :3].min() == picture[:, -1, :3].min() == picture[-1, :, :3].min() == 1
        figure = shares.figure
        width = figure.bbox.width
        for axes in (shares, distances):
            legend = axes.get_legend().get_window_extent()
            assert axes.get_window_extent().x1 < legend.x0 < legend.x1 <= width
        labels = [label for label in distances.get_xticklabels() if label.get_text()]
        boxes = [label.get_window_extent() for label in labels]
        assert all(a.x1 < b.x0 for a, b in pairwise(boxes))


def test_without_an_audit_the_picture_says_so(drawn):
    _, distances, _ = drawn(make_rounds(2, 5, audit=False), 10)
    assert [text.get_text() for text in distances.texts] == ["not measured"]
    assert lines(distances) == {}


def test_a_trial_stopped_within_a_round_ends_with_the_last_measured_one(drawn):
    rounds = make_rounds(3, 10)
    rounds[-1]["distances"] = {}
    shares, distances, _ = drawn(rounds, 24)
    assert lines(distances)["all"][-1] == (20, rounds[1]["distances"]["all"])
    assert lines(shares)["layers, this round"][-1][0] == 24
    assert shares.get_xlim() == (0, 24)


def test_a_category_that_appears_late_has_a_gap_before(drawn):
    rounds = make_rounds(2, 5)
    rounds[0]["distances"] = {n: x for n, x in rounds[0]["distances"].items() if n != "head"}
    _, distances, _ = drawn(rounds, 10)
    assert math.isnan(lines(distances)["head"][1][1])


def test_a_title_is_text_and_no_formula(drawn):
    drawn(make_rounds(1, 1), 1, title="$x_{ of <b>")
