"""A point of a front as a model directory: from the weights that its trial kept, and the base."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import torch

from hft_ray.artifacts import ArtifactError
from hft_ray.artifacts.whole import PARTIAL
from hft_ray.config import Config, ConfigError, Problem
from hft_ray.out_folder import check_new
from hft_ray.pareto.spread import alpha_of
from hft_ray.pareto.tilts import tilt_of
from hft_ray.ranks import Ranks
from hft_ray.training.kept import KeptManifest, kept_names, put_kept, read_kept
from hft_ray.training.models import load_model
from hft_ray.training.save_model import save_model
from hft_ray.training.variant_builder import reset_selection
from hft_ray.training.workspace import Workspace
from hft_ray.weights.average import average
from hft_ray.weights.delta import write_delta
from hft_ray.weights.find import find_directory
from hft_ray.weights.reset import half_reset

Step = Callable[[Path, Path], object]


def export(
    config: Config, kept: Path, variant: str | None, out: Path, root: Path, delta: bool
) -> None:
    """Write the model of a trial, or one of its variants, to ``out``.

    Args:
        config: FILE of the trial, its searched settings put in.
        kept: Folder of the kept weights that it is made from.
        variant: None or ``step-N`` for these weights as they are, ``alpha-A``, ``depth-A,B``,
            ``reset-0.5``.
        out: The directory to make.
        root: Storage root.
        delta: Write only what differs from the base.

    Raises:
        ConfigError: The weights are not there, or are of another base; ``out`` exists.
    """
    check_new(out, {"model.name": config.model.name, "NAME": kept})
    out = out.resolve()
    workspace = Workspace(root, Ranks(), torch.device("cpu"))
    chosen = config.model
    base = find_directory(chosen.name, "model.name", workspace.cache, chosen.revision)
    found = _verified(config, workspace, kept)
    steps: list[Step] = [lambda source, target: _whole(config, workspace, kept, found, target)]
    if variant is not None and (alpha := alpha_of(variant)) is not None:
        steps.append(lambda source, target: average(source, base, alpha, target))
    elif variant is not None and (tilt := tilt_of(variant)) is not None:
        a, b = tilt
        steps.append(lambda source, target: average(source, base, a, target, b))
    elif variant is not None and variant.startswith("reset-"):
        catalog = workspace.catalog(config.model)
        selection = reset_selection(config.selection, catalog, kept_names(kept, found))
        steps.append(lambda source, target: half_reset(source, base, selection, target))
    if delta:
        steps.append(lambda source, target: write_delta(source, base, target))
    out.parent.mkdir(parents=True, exist_ok=True)
    # Beside ``out``: models are large, and its disk is to have one anyway.
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=PARTIAL) as folder:
        made = base
        for number, step in enumerate(steps):
            target = Path(folder, str(number))
            step(made, target)
            made = target
        made.replace(out)


def _verified(config: Config, workspace: Workspace, kept: Path) -> KeptManifest:
    try:
        found = read_kept(kept)
    except ArtifactError as error:
        raise ConfigError(Problem("--select", f"its weights cannot be read: {error}")) from error
    if found.base != workspace.weights_hash(config.model):
        problem = "is another base model than the one that was trained"
        raise ConfigError(Problem("model.name", problem, config.model.name))
    return found


def _whole(
    config: Config, workspace: Workspace, kept: Path, found: KeptManifest, target: Path
) -> None:
    """Write the base with the kept weights in it."""
    source = workspace.source(config.model)
    model = load_model(workspace.pinned(config.model), source, getattr(torch, found.dtype))
    put_kept(model, kept, found)
    save_model(model, workspace.tokenizer(config.model), target, Ranks())
