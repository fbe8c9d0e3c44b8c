"""The sweeps of the study: each is a FILE, made of its task's FILE.

    arms         full fine-tuning and the main methods at three learning rates
    seed1, seed2 full fine-tuning, half fine-tuning as published, and the methods nearest to the
                 front, with other seeds of data and draws
    more         the methods of the task's FILE that are not in arms
    search-hft   half fine-tuning searched: ratio, granularity, re-selection, strategy, rate
    search-all   everything searched together
    again        the best of both searches with two more seeds
    draws        six draws of half of the layers, and six orders of the data

``seed1``, ``seed2`` and ``again`` depend on results; which, is in PLAN.md.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent
PARTS = ("arms", "seed1", "seed2", "search-all", "more", "search-hft", "again", "draws")
ALWAYS = ("full", "hft")
"""Arms that have three seeds on every task."""
LATER = ("hft_quarter", "hft_redrawn", "eaft")
"""Arms of the part more."""
DRAWN = ("words", "arithmetic")
"""Tasks on which draws are compared with seeds."""
SEARCH_TRIALS = 10
DEPTH = "depth"
"""The arm that is made of the models of full, without training."""
DRAW, ORDER, REPEATED = "draw", "order", 6
"""Arms of the part draws, and the trials of each."""
AGAIN = "again-"
"""Beginning of the name of an arm that repeats the best of a search; the search's name follows."""

_RATE = "training.learning_rate"
_HFT: dict[str, Any] = {
    "selection.ratio": {"low": 0.1, "high": 0.75},
    "selection.granularity": ["category", "layer", "model"],
    "selection.reselect": ["never", 24],
    "selection.strategy": ["random", "least_drifted", "source"],
    _RATE: {"low": 1.0e-4, "high": 2.0e-3, "log": True},
}
_ALL: dict[str, Any] = {
    **_HFT,
    "selection.ratio": {"low": 0.1, "high": 1.0},
    "training.kl_to_base": [0.0, 0.1, 1.0],
    "training.token_weights": ["none", "eaft"],
    "training.l2_to_base": [0.0, 0.01],
    "data.replay.share": [0.0, 0.1],
}
_PROBED = {"probe": 128}
"""Of the strategy source, as in the arm of this name."""
SPACES = {"search-hft": _HFT, "search-all": _ALL}
Content = dict[str, Any]


def sweep_name(content: Mapping[str, Any], part: str) -> str:
    """Return the name of a part of the study of a task, whose FILE holds ``content``."""
    return f"{content['name']}-{part}"


def task_content(task: str, data: Path, *, short: bool = False) -> Content:
    """Return the FILE of a task with its data's places.

    Args:
        task: Its name.
        data: Folder of all tasks' data.
        short: Whether to make it the short one for a test: the demo's model, two arms, few steps.
    """
    content: Content = yaml.safe_load((HERE / f"{task}.yaml").read_text("utf-8"))
    given = content["data"]
    given["train"] = str(data / given["train"])
    given["replay"]["train"] = str(data / given["replay"]["train"])
    for each in content["evaluation"]["task"]:
        each["data"] = str(data / each["data"])
    return _short(content) if short else content


def _short(content: Content) -> Content:
    content["name"] += "-short"
    content["model"] = "package:hft_ray/demo/model"
    content["data"]["max_length"] = 128
    content["training"] |= {"steps": 4, "batch_size": 4}
    evaluation, search = content["evaluation"], content["search"]
    evaluation["task"] = [{**evaluation["task"][0], "limit": 12}]
    evaluation["general"] = [{**evaluation["general"][0], "limit": 4}]
    search["arms"] = {name: search["arms"][name] for name in ALWAYS}
    search["space"] = {_RATE: [1.0e-3]}
    search["trials"] = len(ALWAYS)
    search["variants"] = {"averages": [0.5], "depth": 0, "half_reset": False}
    content["cluster"]["groups"] = 1
    return content


def reseeded(content: Content, part: str, arms: Sequence[str]) -> Content:
    """Return some arms of a FILE with other seeds: those of the part's number."""
    made, seed = _with_arms(content, part, [*arms, DEPTH]), int(part[-1])
    made["selection"] = {"seed": seed}
    made["training"]["seed"] = seed
    return made


def searched(content: Content, part: str) -> Content:
    """Return a FILE that searches the space of a part, with the default sampler."""
    made = _named(content, part)
    search = made["search"]
    del search["arms"]
    search["trials"] = SEARCH_TRIALS
    search["space"] = SPACES[part]
    made["selection"] = dict(_PROBED)
    search["variants"]["depth"] = 0
    return made


def again(content: Content, best: Mapping[str, Mapping[str, Any]]) -> Content:
    """Return a FILE that trains the best configuration of each search with seeds 1 and 2.

    Args:
        content: The task's FILE.
        best: Search -> settings of its best configuration.
    """
    made = _named(content, "again")
    made["selection"] = dict(_PROBED)
    search = made["search"]
    search["arms"] = {
        f"{AGAIN}{name}-{seed}": {
            "set": {**settings, "selection.seed": seed},
            "space": {"training.seed": [seed]},
        }
        for name, settings in best.items()
        for seed in (1, 2)
    }
    search["trials"] = len(search["arms"])
    search["variants"]["depth"] = 0
    search["space"] = {"training.seed": [1, 2]}
    return made


def draws(content: Content) -> Content:
    """Return a FILE with six draws of half of the layers, and six orders of the data for one draw.

    The learning rate is the middle one of the study, decided before anything was trained. The model
    of draw 0 and order 0 is trained twice: both must be equal.
    """
    made = _named(content, "draws")
    search = made["search"]
    fixed = {"selection.ratio": 0.5, "selection.granularity": "layer", _RATE: 3.0e-4}
    repeated = list(range(REPEATED))
    search["arms"] = {
        DRAW: {"set": fixed, "space": {"selection.seed": repeated}},
        ORDER: {"set": fixed, "space": {"training.seed": repeated}},
    }
    search["space"] = {"training.seed": [0]}
    search["trials"] = 2 * REPEATED
    search["variants"]["depth"] = 0
    return made


def arms(content: Content) -> Content:
    """Return the first sweep of a task: its FILE without the later arms."""
    names = [name for name in content["search"]["arms"] if name not in LATER]
    return _with_arms(content, "arms", names)


def more(content: Content) -> Content:
    """Return the sweep of the later arms."""
    return _with_arms(content, "more", LATER)


def _with_arms(content: Content, part: str, names: Sequence[str]) -> Content:
    """Return a FILE with some of its arms, and a trial for each of their learning rates."""
    made = _named(content, part)
    search = made["search"]
    search["arms"] = {name: arm for name, arm in search["arms"].items() if name in names}
    if DEPTH not in search["arms"]:
        search["variants"]["depth"] = 0
    trained = len(search["arms"].keys() - {DEPTH})
    search["trials"] = trained * len(search["space"][_RATE])
    return made


def _named(content: Content, part: str) -> Content:
    made = copy.deepcopy(content)
    made["name"] = sweep_name(content, part)
    return made
