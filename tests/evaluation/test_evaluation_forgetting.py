import math

import numpy as np
import pytest

from hft_ray.config import STDERR, EvaluationSection
from hft_ray.evaluation import (
    Score,
    Scores,
    best_values,
    forgetting,
    mean_forgetting,
    metric_errors,
    metric_names,
    metric_values,
    worst_values,
)


def accuracy(*items):
    return Score.of("accuracy", items, worst=0.0)


def loss(*items, weights=None):
    return Score.of("cross_entropy", items, worst=5.0, weights=weights or [1.0] * len(items))


BASE = Scores(task={"t": accuracy(0, 0)}, general={"qa": accuracy(1, 1, 1, 0), "lm": loss(2, 3)})
TUNED = Scores(task={"t": accuracy(1, 1)}, general={"qa": accuracy(1, 0, 0, 0), "lm": loss(3, 6)})
ONE_UNIT = [
    Scores(scores.task, {name: x for name, x in scores.general.items() if name == "qa"})
    for scores in (BASE, TUNED)
]
"""As above, but for the nats."""


def test_positive_is_lost_whatever_the_metric():
    lost = forgetting(BASE, TUNED)
    assert lost["qa"].value == 0.5
    assert lost["lm"].value == 2.0
    gained = forgetting(TUNED, BASE)
    assert (gained["qa"].value, gained["lm"].value) == (-0.5, -2.0)


def test_paired_errors_by_hand():
    lost = forgetting(BASE, TUNED)
    # Item differences 0 1 1 0, and half an item at each of 0, 1, -1, 0 of the table of pairs: 2.5
    # lost and 0.5 gained of 6.
    assert lost["qa"].stderr == pytest.approx(math.sqrt((3 / 6 - (2 / 6) ** 2) / 7))
    # 1 and 3
    assert lost["lm"].stderr == pytest.approx(np.std([1, 3], ddof=1) / math.sqrt(2))
    assert lost["qa"].paired
    errors = [each.stderr for each in lost.values()]
    assert mean_forgetting(lost).stderr == pytest.approx(math.hypot(*errors) / 2)


def test_weights_count_in_paired_errors():
    base = Scores(task={}, general={"lm": loss(2, 3, weights=[1.0, 3.0])})
    tuned = Scores(task={}, general={"lm": loss(3, 6, weights=[1.0, 3.0])})
    lost = forgetting(base, tuned)["lm"]
    # (1 * 1 + 3 * 3) / 4 = 2.5; residuals 1 * -1.5, 3 * 0.5
    assert lost.value == 2.5
    assert lost.stderr == pytest.approx(math.sqrt(2 * 4.5) / 4)


def test_different_items_are_not_paired():
    tuned = Scores(task={}, general={"qa": accuracy(1, 0)})
    lost = forgetting(BASE, tuned)["qa"]
    both = (BASE.general["qa"].stderr, tuned.general["qa"].stderr)
    assert not lost.paired
    assert lost.stderr == pytest.approx(math.hypot(*both))


def test_nothing_lost_is_plain_zero():
    for each in forgetting(BASE, BASE).values():
        assert each.value == 0.0
        assert math.copysign(1, each.value) == 1


@pytest.mark.parametrize("n", [1, 10, 300])
def test_no_answer_that_changed_does_not_prove_that_none_would(n):
    lost = forgetting(*[Scores({}, {"qa": accuracy(*[1] * n)})] * 2)["qa"]
    # 0.5 lost and 0.5 gained of n + 2 pairs
    assert lost.stderr == pytest.approx(math.sqrt(1 / ((n + 2) * (n + 3))))
    # Not one nat changed: the models are one.
    assert forgetting(*[Scores({}, {"lm": loss(2, 3)})] * 2)["lm"].stderr == 0.0


def test_groups_count_in_paired_errors():
    """Each text's two questions change alike: as if each text was one question."""
    before, after = [1, 1, 0, 0, 1, 1], [1, 1, 0, 0, 0, 0]
    both = [Scores({}, {"qa": accuracy(*x).grouped([0, 0, 1, 1, 2, 2])}) for x in (before, after)]
    single = [Scores({}, {"qa": accuracy(*x[::2])}) for x in (before, after)]
    assert forgetting(*both)["qa"].paired
    assert forgetting(*both)["qa"].stderr == pytest.approx(forgetting(*single)["qa"].stderr)


def section():
    one = {"kind": "perplexity", "data": "x.jsonl"}
    general = [{**one, "name": "qa", "kind": "multiple_choice"}, {"name": "lm", **one}]
    return EvaluationSection.model_validate({"task": [{"name": "t", **one}], "general": general})


def test_names_values_errors_and_worst_values_agree():
    values = metric_values(TUNED, BASE)
    assert values == {
        "task/t": 1.0,
        "general/qa": 0.25,
        "general/lm": 4.5,
        "task/score": 1.0,
        "forgetting/qa": 0.5,
        "forgetting/lm": 2.0,
        "retention/qa": 1 / 3,
        "retention/lm": math.exp(-2),
        "retention/mean": (1 / 3 + math.exp(-2)) / 2,
    }
    assert sorted(metric_names(section())) == sorted(values)
    assert [f"{STDERR}{name}" for name in values] == list(metric_errors(TUNED, BASE))
    assert (
        metric_errors(TUNED, BASE)[f"{STDERR}forgetting/qa"] == forgetting(BASE, TUNED)["qa"].stderr
    )
    assert set(worst_values(BASE)) == set(values)


def test_means_of_one_unit():
    base, tuned = ONE_UNIT
    values = metric_values(tuned, base)
    assert (values["general/score"], values["forgetting/mean"]) == (0.25, 0.5)
    one = section().model_copy(update={"general": section().general[:1]})
    assert sorted(metric_names(one)) == sorted(values)
    assert set(worst_values(base)) == set(values)


def test_what_cannot_be_surpassed():
    qa, lm = BASE.general["qa"].value, BASE.general["lm"].value
    assert best_values(BASE) == {
        "task/t": 1.0,
        "task/score": 1.0,
        "general/qa": 1.0,
        "general/lm": 0.0,
        "forgetting/qa": qa - 1.0,
        "forgetting/lm": -lm,
    }
    base, _ = ONE_UNIT
    best = best_values(base)
    assert best["general/score"] == 1.0
    assert best["forgetting/mean"] == pytest.approx(base.general["qa"].value - 1)


def test_without_a_base_or_without_general_evaluations():
    alone = metric_values(TUNED, None)
    assert not [name for name in alone if name.startswith(("forgetting", "retention"))]
    only = Scores(task=TUNED.task, general={})
    assert metric_values(only, only) == {"task/t": 1.0, "task/score": 1.0}
    assert set(worst_values(only)) == {"task/t", "task/score"}
    assert metric_names(EvaluationSection(task=section().task)) == ["task/t", "task/score"]


def test_worst_values():
    assert worst_values(BASE) == {
        "task/t": 0.0,
        "task/score": 0.0,
        "general/qa": 0.0,
        "general/lm": 5.0,
        "forgetting/qa": 0.75,
        "forgetting/lm": 2.5,
        "retention/qa": 0.0,
        "retention/lm": 0.0,
        "retention/mean": 0.0,
    }
    one = worst_values(ONE_UNIT[0])
    assert (one["general/score"], one["forgetting/mean"]) == (0.0, 0.75)
    below = Scores(task={}, general={"lm": loss(7, 9)})
    assert worst_values(below)["forgetting/lm"] == 0.0
