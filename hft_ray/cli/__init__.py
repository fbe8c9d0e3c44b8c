"""The command line: one module per command."""

from hft_ray.cli.main import main

__all__ = ["main"]
