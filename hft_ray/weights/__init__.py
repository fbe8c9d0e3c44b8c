"""Work on the weights of model directories without training: half-reset, average, delta.

Tensors are read and written one at a time, so that a model need not fit into memory.
"""

from hft_ray.weights.average import Averaged, average
from hft_ray.weights.delta import Delta, apply_delta, write_delta
from hft_ray.weights.find import find_directory
from hft_ray.weights.reset import Reset, half_reset

__all__ = [
    "Averaged",
    "Delta",
    "Reset",
    "apply_delta",
    "average",
    "find_directory",
    "half_reset",
    "write_delta",
]
