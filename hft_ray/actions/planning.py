"""``hft-ray plan``: what a FILE would do."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hft_ray.config import Config
    from hft_ray.training.plan import Plan
    from hft_ray.training.probe import Probe


def plan(
    config: Config,
    *,
    storage: str | Path | None = None,
    source: str | None = None,
    probe: bool = False,
) -> Plan:
    """Check everything about a FILE and compute what it would do.

    Args:
        config: What :func:`hft_ray.load` returned.
        storage: Storage root; by default ``$HFT_RAY_HOME``, else ``~/hft-ray``. Tokenised data is
            kept there.
        source: FILE's name, for messages.
        probe: Train a few steps on this machine and tell the time from them; nothing else is
            trained.

    Returns:
        What ``hft-ray plan --json`` prints.

    Raises:
        ConfigError: Everything that is wrong with settings, model, data and evaluations, together.
        TrainingError: The loss of the probe is not finite.
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
    measured = _probe(config, root) if probe else None
    planned = compute(config, workspace, sequences, measured)
    planned["unchecked"] = trusted
    if config.search is not None:
        from hft_ray.tracking import probe as reach
        from hft_ray.tracking import tracking_uri

        where = tracking_uri(config.tracking.uri, root)
        away = reach(where, config.tracking.experiment, root, write=False)
        if away is not None:
            problem = f"the tracking store {where} does not answer: {away}"
            planned["problems"].append(problem)
    return planned


def _probe(config: Config, root: Path) -> Probe:
    import torch

    from hft_ray.config import ConfigError, Problem
    from hft_ray.training import Workspace
    from hft_ray.training.plan import typical_trial
    from hft_ray.training.probe import probe
    from hft_ray.training.process_group import local_device, process_group, start_deepspeed

    device = local_device()
    if config.cluster.gpus_per_worker and device.type == "cpu":
        message = "this machine has no GPU, so a probe here says nothing of the workers' time"
        raise ConfigError(
            Problem("cluster.gpus_per_worker", message, config.cluster.gpus_per_worker)
        )
    threads = torch.get_num_threads()
    with process_group() as ranks:
        start_deepspeed()
        torch.set_num_threads(max(1, int(config.cluster.cpus_per_worker)))
        try:
            workspace = Workspace(root, ranks, device)
            return probe(typical_trial(config, workspace), workspace)
        finally:
            torch.set_num_threads(threads)
