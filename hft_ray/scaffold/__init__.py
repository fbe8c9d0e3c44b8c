"""A first FILE for a model and the user's data, as ``hft-ray init`` writes it."""

from hft_ray.scaffold.first_file import FirstFile, Wishes, first_file, write
from hft_ray.scaffold.machine import Machine, this_machine
from hft_ray.scaffold.source import Source, read_source

__all__ = [
    "FirstFile",
    "Machine",
    "Source",
    "Wishes",
    "first_file",
    "read_source",
    "this_machine",
    "write",
]
