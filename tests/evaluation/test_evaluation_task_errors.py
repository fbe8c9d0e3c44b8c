"""Means of tasks with several evaluations have errors, too."""

from __future__ import annotations

import math

import pytest

from hft_ray.evaluation import Score, Scores, task_errors, task_means


def score(value, stderr, metric="accuracy"):
    return Score(value, stderr, 4, metric, 0.0, (value,) * 4)


def test_errors_of_a_mean_of_tasks_weigh_tasks_alike():
    scores = Scores({"a": score(0.2, 0.03), "b": score(0.4, 0.04), "c": score(0.9, 0.06)}, {})
    tasks = {"one": ["a", "b"], "two": ["c"]}
    assert task_means(tasks, scores) == pytest.approx({"task/one": 0.3, "task/score": 0.6})
    found = task_errors(tasks, scores)
    assert found["stderr/task/one"] == pytest.approx(0.025)
    assert found["stderr/task/score"] == pytest.approx(math.hypot(0.025, 0.06) / 2)
    assert task_errors({"one": ["a"], "two": ["c"]}, scores) == {}
