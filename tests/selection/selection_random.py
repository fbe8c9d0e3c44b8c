"""Random catalogues, selections and histories."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st

from hft_ray.config import Selection, Weights
from hft_ray.selection import Catalog, Draw, History, Unit, draw

CATEGORIES = ("attention", "feed_forward", "norm", "expert", "router")
OUTSIDE = ("embedding", "head", "norm", "other")
RATIOS = st.one_of(
    st.sampled_from([0.1, 0.25, 0.5, 0.75, 1.0]),
    st.floats(0.001, 1.0).map(lambda ratio: round(ratio, 4)),
)


@st.composite
def catalogs(make: st.DrawFn) -> Catalog:
    """Catalogues whose layers have different numbers of units."""
    units = []
    layers = make(st.integers(1, 7))
    for layer in range(layers):
        kinds = make(st.lists(st.sampled_from(CATEGORIES), min_size=1, max_size=9))
        places = [(layer, kind) for kind in kinds]
        units += [(f"layers.{layer}.{i}", *place) for i, place in enumerate(places)]
    outer = make(st.lists(st.sampled_from(OUTSIDE), max_size=4))
    units += [(f"outer.{i}", None, kind) for i, kind in enumerate(outer)]
    sizes = make(st.lists(st.integers(1, 10_000), min_size=len(units), max_size=len(units)))
    return Catalog(
        tuple(
            Unit(name, (f"{name}.weight",), kind, layer, size)
            for (name, layer, kind), size in zip(units, sizes, strict=True)
        ),
        layers,
    )


@st.composite
def even_catalogs(make: st.DrawFn) -> Catalog:
    """Catalogues whose layers are all alike, as those of most models are."""
    layers = make(st.integers(1, 6))
    kinds = make(st.lists(st.sampled_from(CATEGORIES), min_size=1, max_size=9))
    sizes = make(st.lists(st.integers(1, 10_000), min_size=len(kinds), max_size=len(kinds)))
    units = (
        Unit(f"layers.{layer}.{i}", (f"layers.{layer}.{i}.weight",), kind, layer, size)
        for layer in range(layers)
        for i, (kind, size) in enumerate(zip(kinds, sizes, strict=True))
    )
    return Catalog(tuple(units), layers)


def selections(**fixed: Any) -> st.SearchStrategy[Selection]:
    """Selections with any values but the ``fixed`` ones; weighted never with whole layers."""
    weight = st.one_of(st.just(1.0), st.floats(1e-3, 1e3))
    weights = st.builds(Weights, **dict.fromkeys(CATEGORIES, weight))
    choices: dict[str, st.SearchStrategy[Any]] = {
        "ratio": RATIOS,
        "granularity": st.sampled_from(["model", "layer", "category"]),
        "budget": st.sampled_from(["matrices", "parameters"]),
        "embeddings": st.sampled_from(["trained", "frozen", "selected"]),
        "strategy": st.sampled_from(
            ["random", "cyclic", "gradient", "least_drifted", "most_drifted", "weighted"]
        ),
        "weights": weights,
        "seed": st.integers(0, 2**40),
    }
    choices |= {key: st.just(value) for key, value in fixed.items()}
    allowed = st.fixed_dictionaries(choices).filter(
        lambda each: (each["strategy"], each["granularity"]) != ("weighted", "layer")
    )
    return allowed.map(lambda each: Selection(**each))


def past(catalog: Catalog, seed: int) -> History:
    """Return any history at all, also one that no rounds could have led to."""
    generator = random.Random(seed)
    return History(
        {unit.name: generator.randrange(4) for unit in catalog.units},
        {unit.name: generator.choice([0.0, 1.0, generator.random()]) for unit in catalog.units},
    )


def rounds_of(catalog: Catalog, selection: Selection, rounds: int) -> Iterator[Draw]:
    """Draw round after round of a strategy that measures nothing, as a run does."""
    history = History()
    for round in range(rounds):
        drawn = draw(catalog, selection, round, history)
        history = history.after(drawn.units)
        yield drawn
