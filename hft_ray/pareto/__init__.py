"""The mathematics of fronts: dominance, hypervolume, uncertainty, knee, comparison and choice."""

from hft_ray.pareto.arm_fronts import ArmTable, arm_fronts, arm_table
from hft_ray.pareto.certainty import Certainty
from hft_ray.pareto.choice import ChoiceError, choose
from hft_ray.pareto.comparison import Comparison, compare
from hft_ray.pareto.front import Front, build_front
from hft_ray.pareto.noise import noise_of, seed_covariance
from hft_ray.pareto.points import Array, Direction, ItemInfluences, Point
from hft_ray.pareto.replicates import merged

__all__ = [
    "ArmTable",
    "Array",
    "Certainty",
    "ChoiceError",
    "Comparison",
    "Direction",
    "Front",
    "ItemInfluences",
    "Point",
    "arm_fronts",
    "arm_table",
    "build_front",
    "choose",
    "compare",
    "merged",
    "noise_of",
    "seed_covariance",
]
