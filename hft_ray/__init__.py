"""hft-ray: fine-tune a language model with the least forgetting.

The functions below do what the commands of the same name do; ``docs/python.md`` shows them at work.
Each is imported when it is first used, so that ``import hft_ray`` is quick.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

# DeepSpeed imports MLflow through its autotuner; neither is to send or print anything of its own.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_CONFIGURE_LOGGING", "false")

if TYPE_CHECKING:
    from hft_ray.actions.comparing import compare
    from hft_ray.actions.exporting import export
    from hft_ray.actions.front_frame import frame
    from hft_ray.actions.planning import plan
    from hft_ray.actions.reporting import front
    from hft_ray.actions.tuning import simulate, tune
    from hft_ray.config import Config, ConfigError
    from hft_ray.config.load import load
    from hft_ray.orchestration.sweep_errors import ClusterError, InterruptedSweepError, SweepError
    from hft_ray.pareto import Front, Point

__all__ = [
    "ClusterError",
    "Config",
    "ConfigError",
    "Front",
    "InterruptedSweepError",
    "Point",
    "SweepError",
    "__version__",
    "compare",
    "export",
    "frame",
    "front",
    "load",
    "plan",
    "simulate",
    "tune",
]

_HOMES = {
    "actions.comparing": ["compare"],
    "actions.exporting": ["export"],
    "actions.planning": ["plan"],
    "actions.reporting": ["front"],
    "actions.tuning": ["simulate", "tune"],
    "config": ["Config", "ConfigError"],
    "config.load": ["load"],
    "orchestration.sweep_errors": ["ClusterError", "InterruptedSweepError", "SweepError"],
    "pareto": ["Front", "Point"],
    "actions.front_frame": ["frame"],
}
"""Module -> the names of this package that lie there."""

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        """Import a name of the package when it is first used."""
        for module, names in _HOMES.items():
            if name in names:
                return getattr(import_module(f"{__name__}.{module}"), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
