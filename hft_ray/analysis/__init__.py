"""What the searched settings do to the objectives: importance and partial dependence.

:mod:`hft_ray.analysis.influence` loads Optuna and scikit-learn; this package alone does not.
"""

from hft_ray.analysis.settings import Setting

__all__ = ["Setting"]
