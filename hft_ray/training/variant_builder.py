"""More points of the trade-off from one trained model, without training it further.

alpha-A   theta0 + A (theta - theta0): WiSE-FT (arXiv 2109.01903); as a means against forgetting
          arXiv 2309.06256
depth-A,B theta0 + (A + B d) (theta - theta0) with d from 0 for the first layer to 1 for the last:
          LiNeS (arXiv 2410.17146)
reset-0.5 half of the block put back to the base: HFT's pilot experiment (arXiv 2404.18466)
step-N    the model after N steps, at an evaluation before the last; of many those that are spread
          widest over the objectives
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from hft_ray.artifacts import DiskBudget
from hft_ray.config import Selection, Variants
from hft_ray.pareto.spread import Values, average_name, averages
from hft_ray.pareto.tilts import Tilt, tilt_name, tilts
from hft_ray.selection import Catalog, Draw, draw
from hft_ray.training.base_snapshot import BaseSnapshot
from hft_ray.training.engine import Engine
from hft_ray.training.outcome import Outcome, ScoredVariant
from hft_ray.weight_space import Shares, average_shares, depth_shares, reset_shares

_COSTS = ("train/", "selection/", "cost/", "system/")
ScoreVariant = Callable[[str], Values]
_MOST_SEEDS = 50
HALF_RESET = "reset-0.5"


@dataclass(frozen=True)
class RunArtifacts:
    """What a trial keeps and makes beside its last model.

    Attributes:
        folder: Where weights are kept, for export: ``final`` and ``step-N``; None keeps none.
        objectives: Metric -> max or min: what is better.
        variants: Which variants to score after training.
        budget: What the weights of all trials may take; None for any number of bytes.
    """

    folder: Path | None
    objectives: Mapping[str, Literal["max", "min"]]
    variants: Variants = field(default_factory=Variants)
    budget: DiskBudget | None = None


def reset_selection(selection: Selection, catalog: Catalog, touched: Collection[str]) -> Selection:
    """Return what the half-reset puts back, at the granularity of ``selection``.

    Of the trained parameters it is some and not all, where there is such a half: with few units the
    draw of one seed may well be what was trained, or all that was not.

    Args:
        selection: That of the training.
        catalog: The model's units.
        touched: Names of the parameters that any draw has trained.
    """
    trained = {name for unit in catalog.block for name in unit.parameters} & set(touched)
    halves = [_half(selection, number) for number in range(1, _MOST_SEEDS)]
    for half in halves:
        back = trained.intersection(draw(catalog, half, 0).parameters)
        if back and back != trained:
            return half
    return halves[0]


def _half(selection: Selection, number: int) -> Selection:
    return Selection(
        ratio=0.5,
        granularity=selection.granularity,
        budget=selection.budget,
        seed=selection.seed + number * 1_000_003,
        embeddings="frozen",
    )


class VariantBuilder:
    """Makes the variants of a trained model in its place, and takes them back.

    All methods are collectives. Training is over: there are no gradients and no optimizer's state
    beside the variants.

    Args:
        engine: The engine of the run.
        snapshot: The base's values.
        catalog: The model's units.
        trained: The last draw.
        touched: Parameters that may differ from the base.
    """

    def __init__(
        self,
        engine: Engine,
        snapshot: BaseSnapshot,
        catalog: Catalog,
        trained: Draw,
        touched: Collection[str],
    ) -> None:
        self._engine, self._snapshot, self._catalog = engine, snapshot, catalog
        self._trained = trained
        self._touched = sorted(touched)
        engine.finish()
        self._tuned = snapshot.tuned()

    def average(self, alpha: float) -> None:
        """Set the model to the average of ``alpha``."""
        self._blend(average_shares(alpha))

    def tilt(self, tilt: Tilt) -> None:
        """Set the model to the average whose share changes with the depth."""
        self._blend(depth_shares(*tilt, self._catalog.depths))

    def half_reset(self, selection: Selection) -> None:
        """Set the model to the trained one with half of the block put back."""
        half = reset_selection(selection, self._catalog, self._touched)
        self._blend(reset_shares(draw(self._catalog, half, 0).parameters))

    def _blend(self, shares: Shares) -> None:
        self._engine.close()
        self._snapshot.blend(self._tuned, shares, self._touched)
        self._engine.attach(self._trained)


def score_variants(
    builder: VariantBuilder,
    wanted: RunArtifacts,
    selection: Selection,
    base: Values,
    trained: Outcome,
    score: ScoreVariant,
    ranks: int,
) -> list[ScoredVariant]:
    """Make and score the variants of a trained model, which the model is again at the end.

    Args:
        builder: Makes them.
        wanted: Which variants.
        selection: How the model was trained.
        base: Values of the base.
        trained: What the run came to; values that are not scores are taken over from there; the
            cost of making and scoring is added.
        score: Scores the model as it is, under the name of the variant that it is.
        ranks: Number of processes.
    """
    rest = {name: x for name, x in trained.values.items() if name.startswith(_COSTS)}

    def scored(name: str, make: Callable[[], None]) -> Values:
        began = time.monotonic()
        make()
        values = rest | score(name)
        values["cost/device_seconds"] += (time.monotonic() - began) * ranks
        return values

    def average(alpha: float) -> Values:
        return scored(average_name(alpha), lambda: builder.average(alpha))

    def tilted(tilt: Tilt) -> Values:
        return scored(tilt_name(tilt), lambda: builder.tilt(tilt))

    between = averages(wanted.variants.averages, (base, trained.values), wanted.objectives, average)
    uniform = dict(between)
    named = [(average_name(alpha), values) for alpha, values in uniform.items()]
    curve = {0.0: base, **uniform, 1.0: trained.values}
    by_depth = tilts(wanted.variants.depth, curve, wanted.objectives, tilted)
    named += [(tilt_name(each), values) for each, values in by_depth]
    if wanted.variants.half_reset:
        values = scored(HALF_RESET, lambda: builder.half_reset(selection))
        named.append((HALF_RESET, values))
    builder.average(1.0)
    return [ScoredVariant(name, trained.steps, values) for name, values in named]
