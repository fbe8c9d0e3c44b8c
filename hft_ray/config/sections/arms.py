"""``search.arms`` of FILE: methods that one sweep compares, and those that are known by name.

full        full fine-tuning
hft         Half Fine-Tuning as published (arXiv 2404.18466): half of the matrices of each layer and
            category, drawn once for each task or stage
lisa        LISA (arXiv 2403.17919): embeddings, head and n random layers, drawn again every K
            steps; n is ``selection.ratio`` times the number of layers. The default ratio is the
            paper's 2 of 32 layers, K the 20 of its authors' code
lora        LoRA (arXiv 2106.09685), rank 8 and alpha 16 on every linear map inside the layers
l2          full fine-tuning with a penalty towards the base (L2-SP, arXiv 1802.01483)
dft         full fine-tuning, tokens weighted by the model's probability of them (arXiv 2508.05629)
eaft        the same by the model's entropy (arXiv 2601.02151)
stm         full fine-tuning without the tokens that the base finds unlikely (arXiv 2501.14315)
kl          full fine-tuning with a penalty on the KL divergence from the base's predictions
ema         full fine-tuning, of whose weights the exponential moving average is taken
sfa         full fine-tuning, averaged with the base from time to time (arXiv 2501.05559)
source      the half that matters least for general data, ``data.replay.train``, by the squared
            gradients of 128 sequences there: SSU's idea (arXiv 2512.04844) for whole matrices
replay      full fine-tuning with a tenth of general data, ``data.replay.train``, beside its own
averaging   averages of the trained models of ``full`` with the base (WiSE-FT, arXiv 2109.01903)
depth       the same with shares that change with the depth (LiNeS, arXiv 2410.17146)
half_reset  the trained models of ``full`` with half of the block put back (HFT's pilot experiment)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from hft_ray.config.errors import nearest
from hft_ray.config.sections.section import Name, Section
from hft_ray.config.sections.selection import Selection
from hft_ray.config.sections.space import Space
from hft_ray.config.sections.variants import Variants

FULL = "full"
AVERAGING, DEPTH, HALF_RESET = "averaging", "depth", "half_reset"
DERIVED = (AVERAGING, DEPTH, HALF_RESET)
"""Arms that are made of the trained models of ``full``; they have no trials of their own."""
_KINDS = {"alpha": AVERAGING, "depth": DEPTH, "reset": HALF_RESET}
"""How a variant's name begins -> the arm that has it."""


def _selection(**given: Any) -> dict[str, Any]:
    """Return every setting of ``selection`` that decides what is trained, the paper's but given."""
    values = Selection(**given).model_dump(mode="json", exclude={"audit", "seed"})
    weights = {f"weights.{key}": value for key, value in values.pop("weights").items()}
    return {f"selection.{key}": value for key, value in (values | weights).items()}


_EVERYTHING = _selection(ratio=1.0, granularity="model") | {"selection.seed": 0}

BUILT_IN: dict[str, dict[str, Any]] = {
    FULL: _EVERYTHING,
    "hft": _selection(reselect="task"),
    "lisa": _selection(ratio=0.0625, granularity="layer", reselect=20)
    | {"training.moments": "reset"},
    "lora": _EVERYTHING | {"adapter.kind": "lora"},
    "l2": _EVERYTHING | {"training.l2_to_base": 0.01},
    "dft": _EVERYTHING | {"training.token_weights": "dft"},
    "eaft": _EVERYTHING | {"training.token_weights": "eaft"},
    "stm": _EVERYTHING | {"training.token_weights": "stm"},
    "kl": _EVERYTHING | {"training.kl_to_base": 0.1},
    "ema": _EVERYTHING | {"training.average": "ema"},
    "sfa": _EVERYTHING | {"training.average": "sfa"},
    "source": _selection(strategy="source", probe=128) | {"selection.seed": 0},
    "replay": _EVERYTHING | {"data.replay.share": 0.1},
}
"""Arm -> dotted key of FILE -> value. They fix ``selection`` as a whole, but for hft and lisa the
seed of the draws, which is searched where FILE searches it."""


class Arm(Section):
    """One method of a comparison. What a known arm fixes may be changed here."""

    set: dict[str, Any] = Field(default_factory=dict)
    """Dotted key -> value, the same for all trials of the arm."""
    space: Space = Field(default_factory=dict)
    """What is searched in this arm alone, or otherwise than in the sweep's space."""


def _lists_are_names(arms: Any) -> Any:
    if not isinstance(arms, list):
        return arms
    if not all(isinstance(name, str) for name in arms):
        raise ValueError("a list of arms holds their names; settings need a mapping")
    twice = sorted({name for name in arms if arms.count(name) > 1})
    if twice:
        raise ValueError(f"each arm once; {', '.join(twice)} is there several times")
    return {name: {} for name in arms}


Arms = Annotated[
    dict[Name, Arm],
    BeforeValidator(_lists_are_names, json_schema_input_type=dict[str, Arm] | list[str]),
    Field(min_length=1),
]
"""Name -> arm, in the order in which trials are dealt."""


def trained_arms(arms: Mapping[str, Arm]) -> list[str]:
    """Return the arms that have trials of their own."""
    return [name for name in arms if name not in DERIVED]


def arm_problem(
    arms: Mapping[str, Arm], trials: int, first: Sequence[Any], variants: Variants
) -> str | None:
    """Return what is wrong with the arms of a sweep, None if nothing is."""
    if not arms:
        return None
    known = [*BUILT_IN, *DERIVED]
    for name, arm in arms.items():
        if name not in known and not (arm.set or arm.space):
            names = f"known are {', '.join(known)}; another arm needs set or space"
            return f"arms: {name!r} is not a known arm{nearest(name, known)}; {names}"
        if name in DERIVED and (arm.set or arm.space):
            return f"arms: {name} is made of the trained models of full and has no settings"
        if both := sorted(arm.set.keys() & arm.space.keys()):
            return f"arms: {name} both sets and searches {', '.join(both)}"
    derived = [name for name in arms if name in DERIVED]
    if derived and FULL not in arms:
        return f"arms: {derived[0]} is made of the trained models of the arm full, which is missing"
    if AVERAGING in arms and not variants.averages:
        return "arms: averaging needs averages: search.variants.averages is 0"
    if DEPTH in arms and not variants.depth:
        return "arms: depth needs averages by depth: search.variants.depth is 0"
    if HALF_RESET in arms and not variants.half_reset:
        return "arms: half_reset needs search.variants.half_reset, which is false"
    own = arm_variants(FULL, arms, variants)
    if DEPTH in arms and isinstance(own.depth, int) and own.depth > own.most_by_depth:
        return (
            f"arms: depth can have {own.most_by_depth} points of a model here, two for each of its "
            f"averages: name the arm averaging too, or set search.variants.depth {own.depth} lower"
        )
    count = len(trained_arms(arms))
    if trials % count:
        return (
            f"trials {trials} is not a multiple of {count}, the number of arms that are trained: "
            "each has an equal share of the trials"
        )
    if first:
        return "first: with arms the trials are dealt to them in turn; give an arm its settings"
    return None


def arm_variants(name: str | None, arms: Mapping[str, Arm], variants: Variants) -> Variants:
    """Return what is made of a trained model of the arm ``name``.

    A kind of variant that is an arm is made of the models of ``full``. One that is not, but that
    FILE asks for, is made of the models of every arm.
    """
    if not arms:
        return variants

    def made(kind: str, key: str) -> bool:
        return name == FULL if kind in arms else key in variants.model_fields_set

    return Variants(
        averages=variants.averages if made(AVERAGING, "averages") else 0,
        depth=variants.depth if made(DEPTH, "depth") else 0,
        half_reset=variants.half_reset and made(HALF_RESET, "half_reset"),
        steps=variants.steps,
    )


def arm_of(trained: str | None, variant: str | None, arms: Mapping[str, Arm]) -> str | None:
    """Return the arm of a point: that of its training, or the arm that has its kind of variant.

    Args:
        trained: Arm of the training, None without arms.
        variant: Name of the variant, None for the trained model.
        arms: Those of FILE.
    """
    kind = _KINDS.get(variant.split("-")[0]) if variant else None
    return kind if trained is not None and kind in arms else trained
