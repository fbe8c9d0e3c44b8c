"""Settings that no trial would read are refused, and what is to be done instead is said."""

import pytest

from hft_ray.config import ConfigError
from hft_ray.config.load import validate

FILE = {"name": "s", "model": "m", "data": {"train": "t.jsonl"}}
ASKED = [{"name": "u", "kind": "perplexity", "data": "b.jsonl"}]
RATE = {"training.learning_rate": [1e-5, 1e-4]}
STEPS = {"training.steps": [10, 20]}


def tasks(*lengths):
    return {
        "data": {"max_length": 64},
        "method": "continual",
        "tasks": [
            {"name": f"t{n}", "data": "a.jsonl", "evaluation": ASKED, **length}
            for n, length in enumerate(lengths)
        ],
    }


def staged(*entries):
    return {
        "data": {"train": "t.jsonl", "preferences": "p.jsonl"},
        "stages": [
            {"kind": kind, **own} for kind, own in zip(("sft", "dpo"), entries, strict=True)
        ],
    }


def searching(space, arms=None):
    arms = {"arms": arms, "trials": len(arms)} if arms else {}
    return {"search": {"space": space, "objectives": {"task/u": "max"}, **arms}}


OWN_SET = {"full": {}, "mine": {"set": {"adapter.rank": 4}}}
OWN_SPACE = {"full": {}, "mine": {"set": {"selection.ratio": 0.5}, "space": {"adapter.rank": [4]}}}
LORA_ARM = {"full": {}, "mine": {"set": {"adapter.kind": "lora"}}}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"adapter": {"rank": 4}}, "adapter.rank: is read with adapter.kind: lora alone"),
        ({"adapter": {"targets": ["q_proj"]}} | searching(RATE), "adapter.targets: is read with"),
        (searching({"adapter.alpha": [8, 16]}), "search.space.adapter.alpha: is read with"),
        (searching(RATE, OWN_SET), "search.arms.mine.set.adapter.rank: is read with"),
        (searching(RATE, OWN_SPACE), "search.arms.mine.space.adapter.rank: is read with"),
        (
            {"training": {"stm_perplexity": 4.0}},
            "training.stm_perplexity: is read with training.token_weights: stm alone",
        ),
        (
            searching({"training.stm_perplexity": [2, 4]}),
            "search.space.training.stm_perplexity: is read with training.token_weights: stm",
        ),
        (
            searching(RATE, {"stm": {}, "dft": {"set": {"training.stm_perplexity": 4}}}),
            "search.arms.dft.set.training.stm_perplexity: is read with",
        ),
        (
            {"training": {"ema_decay": 0.9}},
            "training.ema_decay: is read with training.average: ema alone",
        ),
        (
            {"training": {"kl_direction": "reverse"}},
            "training.kl_direction: is read with training.kl_to_base: above 0 alone",
        ),
        (
            searching(RATE, {"kl": {}, "l2": {"space": {"training.kl_top": [16, 64]}}}),
            "search.arms.l2.space.training.kl_top: is read with training.kl_to_base: above 0",
        ),
        (
            {"adapter": "lora"} | searching({"selection.ratio": [0.25, 0.5]}),
            "search.space.selection.ratio: is not read with an adapter",
        ),
        (
            searching({"selection.ratio": [0.25, 0.5]} | RATE, LORA_ARM),
            "search.arms.mine.selection.ratio: is not read with an adapter",
        ),
        (
            tasks({"steps": 3}, {"epochs": 2}) | searching(STEPS),
            "search.space.training.steps: is not read: each of tasks has steps or epochs",
        ),
        (
            tasks({"steps": 3}) | searching(RATE, {"full": {}, "m": {"space": STEPS}}),
            "search.arms.m.space.training.steps: is not read: each of tasks",
        ),
        (
            staged({"learning_rate": 1e-5}, {"learning_rate": 5e-7}) | searching(RATE),
            "search.space.training.learning_rate: is not read: each of stages has learning_rate",
        ),
        (
            staged({}, {}) | searching({"stages.1.learning_rate": [1e-7, 1e-6]}),
            "search.space.stages.1.learning_rate: is not a setting that can be searched; stages "
            "are the same in all trials: leave it out there and search training.learning_rate",
        ),
        (
            tasks({}) | searching({"tasks.0.data.limit": [1, 2]}),
            "search.space.tasks.0.data.limit: is not a setting that can be searched; tasks are the "
            "same in all trials",
        ),
    ],
)
def test_what_no_trial_reads_is_refused(changes, told):
    with pytest.raises(ConfigError) as caught:
        validate(FILE | changes, "run.yaml")
    (problem,) = caught.value.problems
    assert str(problem).startswith(told)


@pytest.mark.parametrize(
    "changes",
    [
        {"adapter": {"kind": "lora", "rank": 4}},
        {"adapter": {"rank": 4}} | searching({"adapter.kind": ["none", "lora"]}),
        {"adapter": {"rank": 4}} | searching(RATE, ["full", "lora"]),
        searching({"adapter.rank": [4, 8]} | RATE, ["full", "lora"]),
        searching({"adapter.kind": ["none", "lora"], "selection.ratio": [0.25, 0.5]}),
        searching({"selection.ratio": [0.25, 0.5]} | RATE, {"hft": {"set": {}}, "lora": {}}),
        {"training": {"token_weights": "stm", "stm_perplexity": 4.0}},
        searching({"training.stm_perplexity": [2, 4]} | RATE, ["full", "stm"]),
        searching({"training.token_weights": ["dft", "stm"], "training.stm_perplexity": [2, 4]}),
        searching({"training.ema_decay": {"low": 0.9, "high": 0.99}} | RATE, ["full", "ema"]),
        {"training": {"kl_to_base": 0.1, "kl_direction": "reverse", "kl_top": 8}},
        searching({"training.kl_to_base": {"low": 0.0, "high": 1.0}, "training.kl_top": [4, 8]}),
        searching({"training.kl_direction": ["forward", "reverse"]} | RATE, ["full", "kl"]),
        searching(RATE, {"full": {}, "stm": {"space": {"training.stm_perplexity": [2, 4]}}}),
        tasks({"steps": 3}, {}) | searching(STEPS),
        staged({"learning_rate": 1e-5}, {}) | searching(RATE),
        staged({"steps": 3}, {"steps": 3, "learning_rate": 1e-6}) | searching(RATE),
    ],
)
def test_what_some_trial_reads_is_accepted(changes):
    assert validate(FILE | changes, "run.yaml").name == "s"
