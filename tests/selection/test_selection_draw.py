"""Draws: exact budgets on every architecture, the paper's rule, purity, uniformity."""

from __future__ import annotations

import hashlib
import inspect
import math
import os
import pickle
import subprocess
import sys
from collections import Counter
from functools import cache

import pytest
from selection_models import ARCHITECTURES

from hft_ray.config import Selection
from hft_ray.selection import Catalog, Draw, History, Touched, Unit, build_catalog, draw

RATIOS = (0.1, 0.25, 0.5, 0.75, 1.0)
GRANULARITIES = ("model", "layer", "category")
ALL = pytest.mark.parametrize("name", ARCHITECTURES)
EACH_GRANULARITY = pytest.mark.parametrize("granularity", GRANULARITIES)
EACH_RATIO = pytest.mark.parametrize("ratio", RATIOS)


@cache
def catalog_of(name: str) -> Catalog:
    return build_catalog(ARCHITECTURES[name].build("meta"))


def inside(drawn: Draw) -> list[Unit]:
    return [unit for unit in drawn.units if unit.layer is not None]


def half_up(value: float) -> int:
    return math.floor(value + 0.5)


def layer_sizes(catalog: Catalog) -> list[int]:
    return [sum(u.size for u in catalog.block if u.layer == i) for i in range(catalog.layers)]


@ALL
@EACH_GRANULARITY
@EACH_RATIO
def test_matrix_budget_is_exact(name: str, granularity: str, ratio: float):
    catalog = catalog_of(name)
    for seed in range(3):
        drawn = draw(catalog, Selection(ratio=ratio, granularity=granularity, seed=seed), 0)
        if granularity == "layer":
            layers = {unit.layer for unit in inside(drawn)}
            assert len(layers) == max(1, half_up(ratio * catalog.layers))
            assert set(inside(drawn)) == {u for u in catalog.block if u.layer in layers}
        else:
            assert len(inside(drawn)) == max(1, half_up(ratio * catalog.matrices))
        assert drawn.fractions.matrices == len(inside(drawn)) / catalog.matrices


@ALL
@EACH_GRANULARITY
@EACH_RATIO
def test_parameter_budget_is_met_within_one_unit(name: str, granularity: str, ratio: float):
    catalog = catalog_of(name)
    by_layer = granularity == "layer"
    largest = max(layer_sizes(catalog) if by_layer else (unit.size for unit in catalog.block))
    for seed in range(3):
        selection = Selection(ratio=ratio, granularity=granularity, budget="parameters", seed=seed)
        drawn = draw(catalog, selection, 0)
        realised = sum(unit.size for unit in inside(drawn))
        assert realised > 0
        assert abs(realised - ratio * catalog.block_parameters) <= largest
        assert drawn.fractions.block_parameters == realised / catalog.block_parameters


@ALL
@pytest.mark.parametrize("ratio", (0.1, 0.25, 0.5, 0.75))
def test_category_counts_differ_by_at_most_one_between_layers(name: str, ratio: float):
    catalog = catalog_of(name)
    per_category = Counter(unit.category for unit in catalog.block)
    for seed in range(3):
        drawn = draw(catalog, Selection(ratio=ratio, seed=seed), 0)
        counts = Counter((unit.category, unit.layer) for unit in inside(drawn))
        for category, total in per_category.items():
            ideal = ratio * total / catalog.layers
            cells = [counts[category, layer] for layer in range(catalog.layers)]
            assert set(cells) <= {math.floor(ideal), math.ceil(ideal)}
            assert abs(sum(cells) - ratio * total) < 1


@ALL
@EACH_GRANULARITY
@pytest.mark.parametrize("budget", ("matrices", "parameters"))
@pytest.mark.parametrize("embeddings", ("trained", "frozen", "selected"))
def test_ratio_1_draws_everything(name: str, granularity: str, budget: str, embeddings: str):
    catalog = catalog_of(name)
    selection = Selection(ratio=1, granularity=granularity, budget=budget, embeddings=embeddings)
    drawn = draw(catalog, selection, 3)
    assert drawn.units == (catalog.block if embeddings == "frozen" else catalog.units)
    assert drawn.fractions.matrices == drawn.fractions.block_parameters == 1
    assert (drawn.fractions.model_parameters == 1) == (embeddings != "frozen")


@pytest.mark.parametrize("seed", range(8))
def test_the_rule_of_the_paper_on_llama(seed: int):
    # arXiv 2404.18466: 2 of Q K V O; 2 of up gate down in one half of the layers, 1 in the other;
    # 1 of 2 norms; embeddings and head trained.
    drawn = draw(catalog_of("llama"), Selection(seed=seed), 0)
    counts = Counter((unit.category, unit.layer) for unit in inside(drawn))
    assert [counts["attention", layer] for layer in range(4)] == [2, 2, 2, 2]
    assert sorted(counts["feed_forward", layer] for layer in range(4)) == [1, 1, 2, 2]
    assert [counts["norm", layer] for layer in range(4)] == [1, 1, 1, 1]
    assert {"model.embed_tokens", "lm_head", "model.norm"} < {unit.name for unit in drawn.units}
    assert drawn.fractions.matrices == 0.5


def test_which_half_of_the_layers_has_two_feed_forward_matrices_is_random():
    halves = set()
    for seed in range(60):
        counts = Counter(
            unit.layer
            for unit in draw(catalog_of("llama"), Selection(seed=seed), 0).units
            if unit.category == "feed_forward"
        )
        halves.add(frozenset(layer for layer, count in counts.items() if count == 2))
    assert len(halves) == math.comb(4, 2)


def test_embeddings_trained_and_frozen_differ_by_what_lies_outside():
    catalog = catalog_of("opt_projected")
    trained = draw(catalog, Selection(embeddings="trained"), 0)
    frozen = draw(catalog, Selection(embeddings="frozen"), 0)
    assert set(trained.units) - set(frozen.units) == set(catalog.outside)
    assert frozen.units == tuple(inside(frozen)) == tuple(inside(trained))
    assert trained.fractions.block_parameters == frozen.fractions.block_parameters
    size = sum(unit.size for unit in frozen.units)
    assert frozen.fractions.model_parameters == size / catalog.parameters


@ALL
@EACH_GRANULARITY
@pytest.mark.parametrize("ratio", (0.1, 0.25, 0.5, 0.75))
def test_selected_embeddings_share_the_budget(name: str, granularity: str, ratio: float):
    catalog = catalog_of(name)
    settings = {"ratio": ratio, "granularity": granularity, "embeddings": "selected"}
    drawn = draw(catalog, Selection(**settings), 0)
    if granularity == "layer":
        count = len({u.layer for u in inside(drawn)}) + len(drawn.units) - len(inside(drawn))
        total = catalog.layers + len(catalog.outside)
    else:
        count, total = len(drawn.units), len(catalog.units)
    assert count == max(1, half_up(ratio * total))

    drawn = draw(catalog, Selection(budget="parameters", **settings), 0)
    units = [unit.size for unit in catalog.units]
    largest = max(units + layer_sizes(catalog)) if granularity == "layer" else max(units)
    assert abs(sum(u.size for u in drawn.units) - ratio * catalog.parameters) <= largest
    assert drawn.fractions.model_parameters > 0


@EACH_GRANULARITY
def test_selected_embeddings_come_and_go(granularity: str):
    selection = Selection(granularity=granularity, embeddings="selected")
    seen = Counter(
        unit.name
        for round in range(40)
        for unit in draw(catalog_of("llama"), selection, round).units
        if unit.layer is None
    )
    assert set(seen) == {"model.embed_tokens", "model.norm", "lm_head"}
    assert all(0 < count < 40 for count in seen.values())


def test_fractions_by_hand():
    catalog = Catalog(
        (
            Unit("embed", ("embed.weight",), "embedding", None, 50),
            Unit("0.q", ("0.q.weight", "0.q.bias"), "attention", 0, 10),
            Unit("0.k", ("0.k.weight",), "attention", 0, 30),
            Unit("1.q", ("1.q.weight",), "attention", 1, 10),
        ),
        2,
    )
    drawn = draw(catalog, Selection(ratio=0.6, granularity="layer", embeddings="frozen"), 0)
    assert {unit.layer for unit in drawn.units} in ({0}, {1})
    first = 0 in {unit.layer for unit in drawn.units}
    assert drawn.fractions.matrices == pytest.approx(2 / 3 if first else 1 / 3)
    assert drawn.fractions.block_parameters == pytest.approx(0.8 if first else 0.2)
    assert drawn.fractions.model_parameters == pytest.approx(0.4 if first else 0.1)


def test_the_ratio_is_the_decimal_that_was_written():
    # 0.29 * 50 is 14.499999999999998 in binary; the user asked for 14.5, which rounds up.
    units = (Unit(f"{i}.q", (f"{i}.q.weight",), "attention", i, 10) for i in range(50))
    drawn = draw(Catalog(tuple(units), 50), Selection(ratio=0.29, granularity="model"), 0)
    assert len(drawn.units) == 15


def test_hash_is_of_the_sorted_names():
    drawn = draw(catalog_of("qwen2"), Selection(), 5)
    names = [name for unit in drawn.units for name in unit.parameters]
    assert drawn.parameters == tuple(sorted(names))
    assert drawn.hash == hashlib.sha256("\n".join(sorted(names)).encode()).hexdigest()
    assert drawn.round == 5


# Changing these changes what every recorded seed means: runs are no longer reproduced.
GOLDEN = {
    "model": "d671b79f898196ea912c2b568fefe72000f5a5b0699f44375fbb55b5ee76b9a5",
    "layer": "a585e1f0c59597e06d90f6c8eb2abd30fdba0d4660348e8b0d7af97c810a2548",
    "category": "8f7a4721977f344223e117527338211479d2724a588bf5fbc67c8de8c7708fb3",
}


@EACH_GRANULARITY
def test_golden_hashes(granularity: str):
    drawn = draw(catalog_of("llama"), Selection(granularity=granularity, seed=7), 2)
    assert drawn.hash == GOLDEN[granularity]


def strategy_hash(catalog: Catalog, strategy: str, granularity: str = "category") -> str:
    """Return the hash of a draw from a history made by a rule."""
    weights = {"attention": 2.5, "norm": 0.3}
    selection = Selection(strategy=strategy, granularity=granularity, weights=weights, seed=7)
    history = History(
        {unit.name: i * i % 3 for i, unit in enumerate(catalog.units)},
        {unit.name: (i * 7 % 11) / 7 for i, unit in enumerate(catalog.units)},
    )
    return draw(catalog, selection, 2, history).hash


GOLDEN_STRATEGIES = {
    ("cyclic", "category"): "4c43956a56a4b70c79ac31f5d7d01b40e61837a600eec7043725260f79d57483",
    ("gradient", "category"): "799b5ec604a3dd7371572e46b1feccc7b0f566eb8b543cc9d1f6246a77885dee",
    (
        "least_drifted",
        "category",
    ): "94066d72335acf29e282edd196d49d06dd8fece85ab3132f1e2bd0234a79d53c",
    ("weighted", "category"): "29e2b450077de3b4162a378e726f38f8d2a7554a8c968044d9bffae72a059fcb",
    ("weighted", "model"): "f796d2c8d150af18ed8c5189ed38d02a243fd414e55434d19aae34e8ca748f15",
}


@pytest.mark.parametrize(("strategy", "granularity"), GOLDEN_STRATEGIES)
def test_golden_hashes_of_strategies(strategy: str, granularity: str):
    found = strategy_hash(catalog_of("llama"), strategy, granularity)
    assert found == GOLDEN_STRATEGIES[strategy, granularity]


def test_another_process_with_another_hash_seed_draws_the_same():
    script = (
        "import pickle, sys\n"
        "from hft_ray.config import Selection\n"
        "from hft_ray.selection import Catalog, History, draw\n"
        f"{inspect.getsource(strategy_hash)}\n"
        "catalog = pickle.load(sys.stdin.buffer)\n"
        f"for granularity in {GRANULARITIES}:\n"
        "    print(draw(catalog, Selection(granularity=granularity, seed=7), 2).hash)\n"
        f"for strategy, granularity in {list(GOLDEN_STRATEGIES)}:\n"
        "    print(strategy_hash(catalog, strategy, granularity))\n"
        "assert 'transformers' not in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        input=pickle.dumps(catalog_of("llama")),
        env={**os.environ, "PYTHONHASHSEED": "12345"},
        capture_output=True,
        timeout=120,
        check=True,
    )
    assert done.stdout.decode().split() == [*GOLDEN.values(), *GOLDEN_STRATEGIES.values()]


@EACH_GRANULARITY
def test_rounds_and_seeds_differ(granularity: str):
    catalog = catalog_of("qwen3")
    of_rounds = {draw(catalog, Selection(granularity=granularity), k).hash for k in range(20)}
    of_seeds = {
        draw(catalog, Selection(granularity=granularity, seed=k), 0).hash for k in range(20)
    }
    possible = math.comb(4, 2) if granularity == "layer" else 20
    assert len(of_rounds) >= min(possible, 20) - 1
    assert len(of_seeds) >= min(possible, 20) - 1


@pytest.mark.parametrize(
    ("granularity", "ratio", "chance"),
    [("model", 0.25, 9 / 36), ("layer", 0.25, 1 / 4), ("category", 0.5, 1 / 2)],
)
def test_every_unit_is_drawn_equally_often(granularity: str, ratio: float, chance: float):
    catalog, draws = catalog_of("llama"), 2000
    selection = Selection(ratio=ratio, granularity=granularity, embeddings="frozen", seed=1)
    seen = Counter(u.name for k in range(draws) for u in draw(catalog, selection, k).units)
    # Five standard errors of a binomial share: one false alarm in millions of units.
    error = 5 * math.sqrt(chance * (1 - chance) / draws)
    for unit in catalog.block:
        assert abs(seen[unit.name] / draws - chance) < error, unit.name


def test_units_are_drawn_independently_in_different_layers():
    catalog, draws = catalog_of("llama"), 2000
    first, second = "model.layers.0.self_attn.q_proj", "model.layers.3.self_attn.q_proj"
    both = sum(
        {first, second} <= {unit.name for unit in draw(catalog, Selection(), k).units}
        for k in range(draws)
    )
    assert abs(both / draws - 0.25) < 5 * math.sqrt(0.25 * 0.75 / draws)


def test_touched_follows_one_minus_the_untouched_share():
    catalog = catalog_of("llama")
    touched = Touched(catalog)
    assert touched.fraction == 0
    selection = Selection(ratio=0.25, granularity="layer")
    shares = []
    for round in range(40):
        drawn = draw(catalog, selection, round)
        touched.add(drawn)
        shares.append(touched.fraction)
    assert shares[0] == 0.25 == draw(catalog, selection, 0).fractions.block_parameters
    assert shares == sorted(shares)
    assert shares[-1] == 1


def test_touched_counts_blocks_only():
    catalog = catalog_of("llama_tied")
    touched = Touched(catalog)
    drawn = draw(catalog, Selection(embeddings="trained"), 0)
    touched.add(drawn)
    touched.add(drawn)
    assert touched.fraction == drawn.fractions.block_parameters
