"""Selection: which parameters are trainable, and when that is drawn again."""

from hft_ray.selection.catalog import Catalog, CatalogError, Category, Unit, build_catalog
from hft_ray.selection.checksums import Checksums, FrozenChangedError, changed_message
from hft_ray.selection.draw import Draw, draw, history_of, pool
from hft_ray.selection.fractions import Fractions
from hft_ray.selection.history import History
from hft_ray.selection.reselection import Schedule
from hft_ray.selection.strategies import needs
from hft_ray.selection.touched import Touched
from hft_ray.selection.trainable import apply

__all__ = [
    "Catalog",
    "CatalogError",
    "Category",
    "Checksums",
    "Draw",
    "Fractions",
    "FrozenChangedError",
    "History",
    "Schedule",
    "Touched",
    "Unit",
    "apply",
    "build_catalog",
    "changed_message",
    "draw",
    "history_of",
    "needs",
    "pool",
]
