"""What the searched settings do to the objectives: importance and partial dependence."""

from hft_ray.analysis.influence import Influence, influences
from hft_ray.analysis.settings import Setting

__all__ = ["Influence", "Setting", "influences"]
