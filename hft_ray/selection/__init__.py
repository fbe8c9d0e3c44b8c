"""Selection: which parameters are trainable, and when that is drawn again."""

from hft_ray.selection.apply import apply
from hft_ray.selection.catalog import Catalog, CatalogError, Category, Unit, build_catalog
from hft_ray.selection.draw import Draw, draw
from hft_ray.selection.fractions import Fractions
from hft_ray.selection.schedule import Schedule
from hft_ray.selection.touched import Touched

__all__ = [
    "Catalog",
    "CatalogError",
    "Category",
    "Draw",
    "Fractions",
    "Schedule",
    "Touched",
    "Unit",
    "apply",
    "build_catalog",
    "draw",
]
