"""A FILE with arms as one FILE for each arm."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hft_ray.config.keys import with_settings
from hft_ray.config.schema import Config
from hft_ray.config.sections.arms import BUILT_IN, Arm, arm_variants, trained_arms


def fixed_settings(name: str, arm: Arm) -> dict[str, Any]:
    """Return dotted key -> value of all that an arm fixes, its name included."""
    own = BUILT_IN.get(name, {}) | arm.set
    return {"arm": name} | {key: value for key, value in own.items() if key not in arm.space}


def by_arm(config: Config) -> dict[str | None, Config]:
    """Return arm -> FILE with the arm's settings, space and variants, and its share of the trials.

    Of the sweep's space it keeps what the arm does not fix. A FILE without arms is its only one,
    under None; so is one without ``search``.

    Raises:
        pydantic.ValidationError: An arm's setting is not allowed.
    """
    search = config.search
    if search is None or not search.arms:
        return {None: config}
    names = trained_arms(search.arms)
    found: dict[str | None, Config] = {}
    for name in names:
        arm = search.arms[name]
        fixed = fixed_settings(name, arm)
        share = search.model_copy(
            update={
                "arms": None,
                "space": _kept(search.space, fixed) | arm.space,
                "trials": search.trials // len(names),
                "variants": arm_variants(name, search.arms, search.variants),
            }
        )
        found[name] = with_settings(config, fixed).model_copy(update={"search": share})
    return found


def _kept(space: Mapping[str, Any], fixed: Mapping[str, Any]) -> dict[str, Any]:
    return {key: entry for key, entry in space.items() if key not in fixed}
