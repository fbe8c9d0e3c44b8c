"""Settings that are given or searched and that no trial reads.

This depends on the whole FILE: an arm, or the space, may turn on what reads a setting.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from hft_ray.config.errors import Problem
from hft_ray.config.keys import searched_values
from hft_ray.config.rules.by_arm import by_arm
from hft_ray.config.schema import Config
from hft_ray.config.sections.adapter import Adapter
from hft_ray.config.sections.stages import StageEntry
from hft_ray.config.sections.tasks import Task
from hft_ray.config.sections.training import Training

LENGTH = ("steps", "epochs")


@dataclass(frozen=True)
class _Switch:
    """A setting that turns on what reads others.

    Attributes:
        key: The setting.
        on: Whether a value of it turns them on.
        called: Such a value.
        read: The settings that are read then.
    """

    key: str
    on: Callable[[Any], bool]
    called: str
    read: tuple[str, ...]

    @property
    def message(self) -> str:
        """What is wrong where no trial turns it on."""
        return f"is read with {self.key}: {self.called} alone, which no trial here has"


_LORA = _Switch(
    "adapter.kind",
    lambda kind: kind == "lora",
    "lora",
    tuple(f"adapter.{key}" for key in Adapter.model_fields if key != "kind"),
)
_SWITCHES = (
    _LORA,
    _Switch(
        "training.token_weights",
        lambda weights: weights == "stm",
        "stm",
        ("training.stm_perplexity",),
    ),
    _Switch("training.average", lambda average: average == "ema", "ema", ("training.ema_decay",)),
    _Switch(
        "training.average",
        lambda average: average == "sfa",
        "sfa",
        ("training.sfa_weight", "training.sfa_interval"),
    ),
    _Switch(
        "training.kl_to_base",
        lambda strength: strength > 0,
        "above 0",
        ("training.kl_on", "training.kl_direction", "training.kl_top"),
    ),
)
_DEFAULTS = {
    f"{name}.{key}": value
    for name, section in (("adapter", Adapter()), ("training", Training()))
    for key, value in section
}
_ADAPTER_ALONE = "is not read with an adapter, which is all that is trained; do not search it here"


def unread_problems(config: Config) -> list[Problem]:
    """Return the settings of a FILE, valid otherwise, that none of its trials would read."""
    arms = by_arm(config)
    problems = [each for switch in _SWITCHES for each in _switched_off(config, arms, switch)]
    for name, arm in arms.items():
        for key, path in _places(config, arm).items():
            if (message := _overridden(arm, key)) is not None:
                problems.append(Problem(path, message))
        if _tried(arm, _LORA.key) == {"lora"} and arm.search is not None:
            selected = [key for key in arm.search.space if key.startswith("selection.")]
            at = "search.space" if name is None else f"search.arms.{name}"
            problems += [Problem(f"{at}.{key}", _ADAPTER_ALONE) for key in selected]
    # The space of the sweep is that of each arm. What was given need not be hashable.
    return list({str(problem): problem for problem in problems}.values())


def _tried(config: Config, key: str) -> set[Any]:
    """Return the values of a setting that trials of FILE may have."""
    first = config.search.first if config.search else []
    return {each[key] for each in first if key in each} | set(searched_values(config, key))


def _switched_off(
    config: Config, arms: Mapping[str | None, Config], switch: _Switch
) -> Iterator[Problem]:
    """Yield the settings that ``switch`` leaves unread: in all trials, or in those of an arm."""
    on = {name: any(map(switch.on, _tried(arm, switch.key))) for name, arm in arms.items()}
    if not any(on.values()):
        for key in switch.read:
            if (value := _value(config, key)) != _DEFAULTS[key]:
                yield Problem(key, switch.message, value)
            if config.search and key in config.search.space:
                yield Problem(f"search.space.{key}", switch.message)
    for name, arm in arms.items():
        for key, path in _places(config, arm).items():
            if key in switch.read and not on[name] and path.startswith("search.arms"):
                yield Problem(path, switch.message)


def _value(config: Config, key: str) -> Any:
    section, _, setting = key.partition(".")
    return getattr(getattr(config, section), setting)


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
