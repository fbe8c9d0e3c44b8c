"""The warm start of a sweep: read before it starts, stored once it has its folder."""

from __future__ import annotations

from collections.abc import Callable

from hft_ray.config import Config
from hft_ray.orchestration.folder import SweepFolder

Say = Callable[[str], None]
"""Shows the user a line."""


def start_warm(config: Config, folder: SweepFolder) -> Callable[[Say], None]:
    """Read the sweeps of ``search.warm_start``; return a function that stores what they give.

    Raises:
        ConfigError: A sweep is not there.
    """
    assert config.search is not None
    if not config.search.warm_start:
        return lambda say: None
    from hft_ray.orchestration.warm_start import keep, warm_start  # takes seconds to import

    warm, names = warm_start(config, folder), ", ".join(config.search.warm_start)

    def begin(say: Say) -> None:
        keep(warm, folder)
        say(
            f"warm start: {len(warm.known)} trials are known, {len(warm.points)} points to begin "
            f"with, from {names}"
        )

    return begin
