"""The study's modules, which are beside its scripts, and recorded sweeps."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [
    str(ROOT / "benchmarks"),
    str(ROOT / "benchmarks" / "study"),
    str(ROOT / "tests" / "orchestration"),
]
