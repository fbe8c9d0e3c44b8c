"""What the page says first: sentences from a front, and a table that fits."""

from __future__ import annotations

import re

import pytest

from hft_ray.pareto import Point, build_front
from hft_ray.report.front_html import render_html
from hft_ray.report.takeaways import takeaway

TWO = {"task/score": "max", "forgetting/mean": "min"}
REFERENCE = {"task/score": 0.0, "forgetting/mean": 1.0}


def point(trial, ratio, score, lost, error=0.01, **more):
    settings = {"selection.ratio": ratio, "training.learning_rate": 1e-3, **more.pop("params", {})}
    values = dict(zip(TWO, (score, lost), strict=True))
    errors = dict.fromkeys(TWO, error) if error is not None else {}
    return Point(
        trial, more.get("variant"), f"run-{trial}", "complete", 9, settings, values, errors
    )


def front_of(*points, objectives=TWO):
    reference = {name: REFERENCE[name] for name in objectives}
    return build_front("s", objectives, points, {"task/score": 0.1}, reference)


FULL = point("t0000", 1.0, 0.9, 0.4)


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (
            point("t0001", 0.5, 0.95, 0.3),
            "At the task/score of full fine-tuning (0.9), t0001 forgets 0.3 instead of 0.4: "
            "25% less; difference -0.100 [-0.128, -0.072], 95 % interval.",
        ),
        (
            point("t0001", 0.5, 0.95, 0.3, error=None),
            "At the task/score of full fine-tuning (0.9), t0001 forgets 0.3 instead of 0.4: "
            "25% less; difference -0.100 [-0.120, -0.080], 95 % interval.",
        ),
        (
            point("t0001", 0.5, 0.89, 0.3),
            "At a task/score that cannot be told from that of full fine-tuning (difference -0.010 "
            "[-0.038, 0.018]), t0001 forgets 0.3 instead of 0.4: 25% less; difference -0.100 "
            "[-0.128, -0.072], 95 % interval.",
        ),
        (
            point("t0001", 0.5, 0.5, 0.3),
            "No point of the front reaches the task/score of full fine-tuning with less "
            "forgetting/mean.",
        ),
    ],
    ids=["better", "exact", "as good", "worse"],
)
def test_what_is_forgotten_at_the_score_of_full_fine_tuning(other, said):
    assert takeaway(front_of(FULL, other)).sentences[0] == said


def test_the_command_exports_what_the_first_sentence_names():
    better = point("t0001", 0.5, 0.95, 0.3, variant="alpha-0.5")
    found = takeaway(front_of(FULL, better, point("t0002", 0.2, 0.6, 0.01)))
    assert "t0001 alpha-0.5 forgets" in found.sentences[0]
    assert found.command == "hft-ray export s --select trial:t0001+alpha-0.5 --out DIR"


def test_a_point_as_good_within_the_noise_is_named_if_it_forgets_clearly_less():
    better, alike = point("t0001", 0.5, 0.95, 0.3), point("t0002", 0.5, 0.89, 0.1)
    found = takeaway(front_of(FULL, better, alike))
    assert "t0001 forgets 0.3 instead of 0.4" in found.sentences[0]
    assert found.sentences[1] == (
        "At a task/score that cannot be told from it (difference -0.010 [-0.038, 0.018]), t0002 "
        "forgets 0.1 instead of 0.4: 75% less; difference -0.300 [-0.328, -0.272], 95 % interval."
    )
    assert len(found.sentences) == 3
    assert "trial:t0002" in found.command
    # Not if it may be chance.
    alike = point("t0002", 0.5, 0.89, 0.29)
    assert len(takeaway(front_of(FULL, better, alike)).sentences) == 2


def test_an_average_of_full_fine_tuning_may_take_its_place():
    average = point("t0000", 1.0, 0.91, 0.1, variant="alpha-0.75")
    found = takeaway(front_of(FULL, average, point("t0001", 0.5, 0.6, 0.05)))
    assert "t0000 alpha-0.75 forgets 0.1 instead of 0.4: 75% less" in found.sentences[0]
    assert "trial:t0000+alpha-0.75" in found.command


def test_the_rival_is_the_full_fine_tuning_that_forgets_least_for_its_score():
    other = point("t0003", 1.0, 0.89, 0.35)  # as good as FULL, and it forgets less
    worse = point("t0004", 1.0, 0.5, 0.2)
    found = takeaway(front_of(FULL, other, worse, point("t0001", 0.5, 0.95, 0.3)))
    assert "fine-tuning (0.89), t0001 forgets 0.3 instead of 0.35" in found.sentences[0]


def test_few_items_make_no_point_as_good():
    """Its difference holds 0 because the errors are large; it may lack half of what was learned."""
    full, reach = point("t0000", 1.0, 0.9, 0.4, 0.09), point("t0001", 0.5, 0.9, 0.3, 0.09)
    found = takeaway(front_of(full, reach, point("t0002", 0.5, 0.66, 0.01, 0.13)))
    assert len(found.sentences) == 2
    assert "trial:t0001" in found.command


@pytest.mark.parametrize("error", [0.01, 0.0])
def test_a_point_that_is_better_elsewhere_alone_is_not_praised(error):
    """Of three objectives a point may be on the front by the third."""
    three = TWO | {"cost": "min"}
    rows = [(0.9, 0.4, 3.0), (0.95, 0.1, 2.0), (0.89, 0.3, 1.0)]
    points = [
        Point(
            f"t{n}",
            None,
            None,
            "complete",
            9,
            {"selection.ratio": 1.0 if n == 0 else 0.5},
            dict(zip(three, row, strict=True)),
            {"task/score": 0.01} | ({"forgetting/mean": error} if error else {}),
        )
        for n, row in enumerate(rows)
    ]
    reference = REFERENCE | {"cost": 4.0}
    found = takeaway(build_front("s", three, points, {"task/score": 0.1}, reference))
    assert "t1 forgets 0.1 instead of 0.4" in found.sentences[0]
    assert len(found.sentences) == 2
    assert "trial:t1 " in found.command


def test_without_full_fine_tuning_there_is_the_knee_alone():
    (said,) = takeaway(front_of(point("t0001", 0.5, 0.9, 0.3))).sentences
    assert said == (
        "The knee, the best compromise, is t0001: task/score 0.900 [0.880, 0.920], "
        "forgetting/mean 0.300 [0.280, 0.320]."
    )
    assert takeaway(front_of()) is None


def test_with_one_objective_nothing_is_matched():
    found = takeaway(front_of(FULL, objectives={"task/score": "max"}))
    assert len(found.sentences) == 1
    assert found.command.endswith("--select trial:t0000 --out DIR")


def front_table(page):
    text = re.sub(r"<script.*?</script>", "", page, flags=re.S)
    return re.search(r"<h2>The front</h2>(.*?)</div>\n", text, flags=re.S).group(1)


def test_the_table_leaves_out_what_all_rows_share_and_tells_base_and_full_apart():
    layer, model = ({"selection.granularity": name} for name in ("layer", "model"))
    rows = [
        point("t0000", 1.0, 0.9, 0.4, params=layer),
        point("t0001", 0.5, 0.8, 0.2, params=layer),
        point("t0002", 0.5, 0.1, 0.9, params=model),
    ]
    part = front_table(render_html(front_of(*rows)))
    heads = re.findall(r"<th>(.*?)</th>", part.replace("<wbr>", ""))
    assert heads == ["trial", "task/score", "forgetting/mean", "P", "ratio"]
    assert "The same in all rows: granularity layer." in part
    assert part.index("<b>P</b> is the probability") < part.index("<table>")
    assert [css for css in re.findall(r'<tr class="(\w*)">', part) if css in ("full", "base")]
    assert "✚ t0000" in part
    assert "★ base model" in part
    assert "±" not in part


def test_a_value_without_noise_stands_alone():
    part = front_table(render_html(front_of(point("t0001", 0.5, 0.9, 0.3, error=0.0))))
    assert ">0.9</td>" in part
    assert "P</th>" not in part


def test_the_page_has_colours_for_the_dark():
    page = render_html(front_of(FULL))
    assert "prefers-color-scheme: dark" in page
    assert "color-scheme: light dark" in page
