"""Private names of BoTorch, which hold in 0.18.

===================================  ==========================================================
``analytic._log_ei_helper``          The logarithm of the expected excess of a normal variable;
                                     public is only the acquisition function that is made of it
===================================  ==========================================================
"""

from __future__ import annotations

from botorch.acquisition.analytic import _log_ei_helper
from torch import Tensor


def log_expected_excess(z: Tensor) -> Tensor:
    """Return the logarithm of the expected ``max(0, z + e)``, ``e`` standard normal; any shape."""
    return _log_ei_helper(z)
