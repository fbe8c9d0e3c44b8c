"""The warm start of a sweep: read before it starts, stored once it has its folder."""

from __future__ import annotations

from collections.abc import Callable

from rich.console import Console

from hft_ray.config import Config
from hft_ray.orchestration.folder import SweepFolder


def start_warm(config: Config, folder: SweepFolder) -> Callable[[Console], None]:
    """Read the sweeps of ``search.warm_start``; return a function that stores what they give.

    Raises:
        ConfigError: A sweep is not there.
    """
    assert config.search is not None
    if not config.search.warm_start:
        return lambda console: None
    from hft_ray.orchestration.warm_start import keep, warm_start  # takes seconds to import

    warm = warm_start(config, folder)

    def begin(console: Console) -> None:
        keep(warm, folder)
        console.print(
            f"warm start: {len(warm.known)} trials are known, {len(warm.points)} points to begin "
            f"with, from {', '.join(config.search.warm_start)}",  # type: ignore[union-attr]
            soft_wrap=True,
        )

    return begin
