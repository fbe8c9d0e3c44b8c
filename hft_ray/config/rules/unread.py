"""Settings that are given or searched and that no trial reads.

This depends on the whole FILE: an arm, or the space, may turn on what reads a setting.
"""

from __future__ import annotations

from collections.abc import Iterator

from hft_ray.config.errors import Problem
from hft_ray.config.keys import searched_values
from hft_ray.config.rules.by_arm import by_arm
from hft_ray.config.schema import Config
from hft_ray.config.sections.adapter import Adapter
from hft_ray.config.sections.stages import StageEntry
from hft_ray.config.sections.tasks import Task

LENGTH = ("steps", "epochs")
_ADAPTER = [f"adapter.{key}" for key in Adapter.model_fields if key != "kind"]
_NO_ADAPTER = "is read with adapter.kind: lora alone, which no trial here has"
_ADAPTER_ALONE = "is not read with an adapter, which is all that is trained; do not search it here"


def unread_problems(config: Config) -> list[Problem]:
    """Return the settings of a FILE, valid otherwise, that none of its trials would read."""
    arms = by_arm(config)
    kinds = {name: _adapters(arm) for name, arm in arms.items()}
    problems = [] if "lora" in set().union(*kinds.values()) else list(_adapter_problems(config))
    for name, arm in arms.items():
        for key, path in _places(config, arm).items():
            if key in _ADAPTER and "lora" not in kinds[name] and path.startswith("search.arms"):
                problems.append(Problem(path, _NO_ADAPTER))
            if (message := _overridden(arm, key)) is not None:
                problems.append(Problem(path, message))
        if kinds[name] == {"lora"} and arm.search is not None:
            selected = [key for key in arm.search.space if key.startswith("selection.")]
            at = "search.space" if name is None else f"search.arms.{name}"
            problems += [Problem(f"{at}.{key}", _ADAPTER_ALONE) for key in selected]
    # The space of the sweep is that of each arm. What was given need not be hashable.
    return list({str(problem): problem for problem in problems}.values())


def _adapters(config: Config) -> set[str]:
    first = config.search.first if config.search else []
    asked = {each["adapter.kind"] for each in first if "adapter.kind" in each}
    return asked | set(searched_values(config, "adapter.kind"))


def _adapter_problems(config: Config) -> Iterator[Problem]:
    """Yield what FILE says of an adapter that there is not."""
    default = Adapter().model_dump()
    for key, value in config.adapter.model_dump().items():
        if key != "kind" and value != default[key]:
            yield Problem(f"adapter.{key}", _NO_ADAPTER, value)
    for key in config.search.space if config.search else ():
        if key in _ADAPTER:
            yield Problem(f"search.space.{key}", _NO_ADAPTER)


def _places(config: Config, arm: Config) -> dict[str, str]:
    """Return setting -> its place in FILE, of what is searched in an arm and what that sets."""
    if config.search is None or arm.search is None:
        return {}
    own = config.search.arms[arm.arm] if config.search.arms and arm.arm else None
    found = {key: f"search.space.{key}" for key in arm.search.space}
    if own is not None:
        found |= {key: f"search.arms.{arm.arm}.set.{key}" for key in own.set}
        found |= {key: f"search.arms.{arm.arm}.space.{key}" for key in own.space}
    return found


def _overridden(config: Config, key: str) -> str | None:
    """Return what is wrong with ``training.steps`` and its like where every part has its own."""
    section, _, setting = key.partition(".")
    if section != "training" or setting not in (*LENGTH, "learning_rate"):
        return None
    parts, called = _parts(config)
    own = LENGTH if setting in LENGTH else (setting,)
    if not parts or not all(any(getattr(part, name, None) for name in own) for part in parts):
        return None
    return f"is not read: each of {called} has {' or '.join(own)} of its own; leave these out there"


def _parts(config: Config) -> tuple[list[StageEntry] | list[Task], str]:
    """Return what a run goes through one after another, as far as no trial has others."""
    if config.search and {"stages", "method.kind"} & config.search.space.keys():
        return [], ""
    if config.stages:
        return config.stages, "stages"
    return (config.tasks, "tasks") if config.method.kind == "continual" else ([], "")
