"""Which tensor of the base a tensor of the tuned model has come from."""

from __future__ import annotations

from torch import nn

from hft_ray.config import ConfigError, Model, Problem
from hft_ray.training.architecture import load_shape
from hft_ray.weights.model_files import ModelFiles, names_in_short
from hft_ray.weights.placement import Placement

Pairs = dict[str, str | None]
"""Name in the tuned model's files -> name in the base's files, or None where the base has none."""


def shape_of(checkpoint: ModelFiles) -> nn.Module:
    """Return the model of a checkpoint without weights.

    Raises:
        ConfigError: transformers does not know the model.
    """
    folder = str(checkpoint.folder)
    try:
        return load_shape(Model(name=folder), folder)
    except ConfigError as error:
        problems = [Problem(checkpoint.what, each.message, folder) for each in error.problems]
        raise ConfigError(problems) from error


def parameters_of(tuned: ModelFiles, model: nn.Module) -> dict[str, str | None]:
    """Return the parameter that each tensor belongs to, None for a buffer.

    Raises:
        ConfigError: Some tensors are not understood, or some parameters have no tensor.
    """
    places = Placement(model).places(tuned.entries)
    unknown = [name for name, place in places.items() if place is None or place.splits]
    if unknown:
        problem = f"has tensors that are not one parameter's: {names_in_short(unknown)}"
        raise ConfigError(Problem(tuned.what, problem, str(tuned.folder)))
    found = {name: place.parameter for name, place in places.items() if place is not None}
    missing = {name for name, _ in model.named_parameters()} - set(found.values())
    if missing:
        problem = f"has no tensor for parameters of its model: {names_in_short(missing)}"
        raise ConfigError(Problem(tuned.what, problem, str(tuned.folder)))
    return found


def pair(tuned: ModelFiles, base: ModelFiles) -> Pairs:
    """Find the base's tensor for each of the tuned model's, by name or by the loading rules.

    Raises:
        ConfigError: The two are models of different types.
    """
    kinds = [each.config.get("model_type") for each in (tuned, base)]
    if kinds[0] != kinds[1]:
        problem = f"is a model of type {kinds[1]!r}, but {tuned.what} one of type {kinds[0]!r}"
        raise ConfigError(Problem(base.what, problem, str(base.folder)))
    if tuned.entries.keys() == base.entries.keys():
        return {name: name for name in tuned.entries}
    naming = Placement(shape_of(tuned))
    by_target: dict[tuple[str, str], str] = {}
    by_parameter: dict[tuple[str | None, str], str] = {}
    for key, place in naming.places(base.entries).items():
        if place is not None:
            by_target[place.target, place.part] = key
        if place is not None and place.parameter is not None:
            by_parameter.setdefault((place.parameter, place.part), key)
    pairs: Pairs = {}
    for key, place in naming.places(tuned.entries).items():
        if place is None:
            pairs[key] = key if key in base.entries else None
            continue
        # A tied parameter is one tensor in some directories and two in others.
        same = by_target.get((place.target, place.part))
        pairs[key] = same or by_parameter.get((place.parameter, place.part))
    return pairs


def pair_all(tuned: ModelFiles, base: ModelFiles) -> Pairs:
    """Pair two models that must be alike: the same parameters, in the same shapes.

    A tensor that is not a parameter (a buffer of a former version) may lack its partner.

    Raises:
        ConfigError: They are not alike, or their weights are quantised; it names the tensors.
    """
    for each in (tuned, base):
        if "quantization_config" in each.config:
            problem = "has quantised weights, which cannot be mixed; give the whole model"
            raise ConfigError(Problem(each.what, problem, str(each.folder)))
    pairs = pair(tuned, base)
    problems = _missing(tuned, base)
    shapes = [
        f"{name} ({list(tuned.entries[name].shape)} and {list(base.entries[partner].shape)})"
        for name, partner in pairs.items()
        if partner is not None and tuned.entries[name].shape != base.entries[partner].shape
    ]
    if shapes:
        problem = f"has tensors of other shapes than {tuned.what}: {names_in_short(shapes)}"
        problems.append(Problem(base.what, problem))
    if problems:
        raise ConfigError(problems)
    return pairs


def _missing(tuned: ModelFiles, base: ModelFiles) -> list[Problem]:
    """Return which tensors of a parameter each model has that the other one lacks."""
    if tuned.entries.keys() == base.entries.keys():
        return []
    models = (tuned, base)
    naming = Placement(shape_of(tuned))
    problems: list[Problem] = []
    owned: list[dict[tuple[str, str], str]] = []
    for each in models:
        places = naming.places(each.entries)
        unknown = [name for name, place in places.items() if place is None]
        if unknown:
            problem = (
                f"has tensors that {tuned.what}'s model has no place for: {names_in_short(unknown)}"
            )
            problems.append(Problem(each.what, problem))
        owned.append(
            {
                (place.parameter, place.part): name
                for name, place in places.items()
                if place is not None and place.parameter is not None
            }
        )
    for one, other in ((0, 1), (1, 0)):
        alone = [name for part, name in owned[one].items() if part not in owned[other]]
        if alone:
            problem = f"lacks tensors that {models[one].what} has: {names_in_short(alone)}"
            problems.append(Problem(models[other].what, problem))
    return problems
