"""The forecast of forgetting: what it measures, on which examples, and that runs report it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from training_cases import UNASKED, merged, start

from hft_ray.config import Config, ConfigError
from hft_ray.config.load import validate
from hft_ray.pareto.points import FORECAST
from hft_ray.ranks import Ranks
from hft_ray.training import Workspace
from hft_ray.training.checks import check_settings
from hft_ray.training.forecast import make_forecast
from hft_ray.training.models import load_model

COUNT = 5
ASKED = UNASKED | {"evaluation.forecast": COUNT, "evaluation.every": 2, "training.steps": 4}


def cases(file):
    saved = {"training.checkpoint_every": 2, "stop_at": 3, "again": True}
    changes = {
        "forecast-0": ASKED | {"extras": {"averages": [0.5], "half_reset": False}},
        "forecast-3": ASKED | {"training.zero_stage": 3},
        "again": ASKED | saved,
        "lora": ASKED | {"adapter.kind": "lora"},
        "plain": {key: x for key, x in ASKED.items() if key != "evaluation.forecast"},
    }
    return {name: merged(file, each) for name, each in changes.items()}


@pytest.fixture(scope="module")
def runs(jobs, tiny_file, tmp_path_factory):
    torch.set_num_threads(1)
    return start(jobs, tmp_path_factory.mktemp("forecast"), cases(tiny_file), ranks=2)


def reference(file, tuned, workspace):
    """Return the divergence of ``tuned`` by a plain computation in float64."""
    config = Config.model_validate(file)
    (data,) = workspace.training_sets(config.model, config.training_data)
    base = load_model(config.model, workspace.source(config.model), torch.float32).double()
    tuned = tuned.double()
    total, count = 0.0, 0
    for place in np.arange(COUNT) * len(data) // COUNT:
        ids = torch.as_tensor(data[int(place)]["input_ids"])[None]
        trained = torch.as_tensor(data[int(place)]["labels"])[1:] != -100
        with torch.no_grad():
            p, q = (
                model(ids).logits[0, :-1][trained].log_softmax(dim=-1) for model in (base, tuned)
            )
        p, tokens = p.sort(dim=-1, descending=True)
        q = q.gather(-1, tokens)
        joined = [torch.cat([x[:, :64], x[:, 64:].logsumexp(-1, keepdim=True)], -1) for x in (p, q)]
        total += float((joined[0].exp() * (joined[0] - joined[1])).sum())
        count += int(trained.sum())
    return total / count


def load(folder):
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    return Workspace(tmp_path_factory.mktemp("root"), Ranks(), torch.device("cpu"))


@pytest.mark.parametrize("case", ["forecast-0", "forecast-3", "lora"])
def test_a_run_reports_the_divergence_of_its_model(runs, workspace, tiny_file, case):
    found = runs.outcome(case)["values"][FORECAST]
    expected = reference(cases(tiny_file)["plain"], load(runs.folder / case), workspace)
    assert expected > 1e-5
    assert found == pytest.approx(expected, rel=1e-3, abs=1e-6)


def test_variants_have_it_and_averages_are_nearer_to_the_base(runs):
    outcome = runs.outcome("forecast-0")
    (half,) = [each for each in outcome["variants"] if each["variant"] == "alpha-0.5"]
    assert 0 < half["values"][FORECAST] < outcome["values"][FORECAST]


def test_training_is_that_of_a_run_without_it(runs):
    assert runs.losses("forecast-0") == runs.losses("plain")
    assert FORECAST not in runs.outcome("plain")["values"]


def test_a_resumed_run_measures_the_same_to_the_bit(runs):
    values = [runs.outcome(case)["values"][FORECAST] for case in ("again", "forecast-0")]
    assert values[0] == values[1]


def test_the_base_itself_is_at_zero_and_is_asked_once(workspace, tiny_file):
    config = Config.model_validate(merged(tiny_file, ASKED | {"evaluation.forecast": 3}))
    model = load_model(config.model, workspace.source(config.model), torch.float32)
    for _ in range(2):
        forecast = make_forecast(config, workspace, Ranks())
        forecast.ask(model, "base")
        assert forecast.measure(model)[FORECAST] == pytest.approx(0, abs=1e-6)
    assert len(list((workspace.cache / "reference").glob("*.npy"))) == 1


def test_more_than_there_are_is_all(workspace, tiny_file):
    config = Config.model_validate(merged(tiny_file, ASKED | {"evaluation.forecast": 10**6}))
    model = load_model(config.model, workspace.source(config.model), torch.float32)
    forecast = make_forecast(config, workspace, Ranks())
    forecast.ask(model, "base")
    assert math.isfinite(forecast.measure(model)[FORECAST])


def test_without_supervised_data_it_is_refused():
    file = {"name": "s", "model": "m", "data": {"train": "p.jsonl"}, "method": "dpo"}
    with pytest.raises(ConfigError, match=r"evaluation.forecast.*supervised"):
        validate(file | {"evaluation": {"forecast": 4}}, "FILE")


def test_it_can_be_an_objective(tiny_file):
    file = merged(tiny_file, {"evaluation.forecast": 3})
    file["search"] = {
        "trials": 2,
        "space": {"selection.ratio": [0.5, 1.0]},
        "objectives": {"task/score": "max", FORECAST: "min"},
        "reference_point": {"task/score": 0.0, FORECAST: 5.0},
    }
    assert check_settings(validate(file, "FILE")) == []
    del file["evaluation"]["forecast"]
    (problem,) = check_settings(validate(file, "FILE"))
    assert "is produced by no evaluation" in problem.message
