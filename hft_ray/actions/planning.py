"""``hft-ray plan``: what a FILE would do."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hft_ray.config import Config
    from hft_ray.training.plan import Plan


def plan(config: Config, *, storage: str | Path | None = None, source: str | None = None) -> Plan:
    """Check everything about a FILE and compute what it would do; nothing is trained.

    Args:
        config: What :func:`hft_ray.load` returned.
        storage: Storage root; by default ``$HFT_RAY_HOME``, else ``~/hft-ray``. Tokenised data is
            kept there.
        source: FILE's name, for messages.

    Returns:
        What ``hft-ray plan --json`` prints.

    Raises:
        ConfigError: Everything that is wrong with settings, model, data and evaluations, together.
    """
    import torch

    from hft_ray.ranks import Ranks
    from hft_ray.storage_root import storage_root
    from hft_ray.training import Workspace, check
    from hft_ray.training.methods import known_sequences, make_stages
    from hft_ray.training.plan import plan as compute

    root = storage_root(storage)
    workspace = Workspace(root, Ranks(), torch.device("cpu"))
    trusted = check(config, workspace, source, trust_hub=True)
    sections = [*config.training_data.values(), *config.pair_data.values()]
    needed = {config.model.name, *(each.train for each in sections)}
    sequences = known_sequences(config)
    if sequences is None and not needed & set(trusted):
        sequences = sum(stage.sequences for stage in make_stages(config, workspace))
    planned = compute(config, workspace, sequences)
    planned["unchecked"] = trusted
    if config.search is not None:
        from hft_ray.tracking import probe, tracking_uri

        where = tracking_uri(config.tracking.uri, root)
        away = probe(where, config.tracking.experiment, root, write=False)
        if away is not None:
            problem = f"the tracking store {where} does not answer: {away}"
            planned["problems"].append(problem)
    return planned
