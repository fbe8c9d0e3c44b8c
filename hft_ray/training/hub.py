"""A hub model as the commit that its name stands for: what moves is never taken for the same."""

from __future__ import annotations

from huggingface_hub import ResolvedRevision, resolve_revision
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, RevisionResolutionError

from hft_ray.config import Config, ConfigError, Model, Problem
from hft_ray.config.keys import searched_values
from hft_ray.config.rules.by_arm import by_arm
from hft_ray.data import locate

PATH = "model.name"


def pinned_model(model: Model) -> Model:
    """Return ``model`` with the commit of a hub model as its revision; any other as it is.

    The hub is asked; where it cannot be reached, the commit that was fetched last is taken.

    Raises:
        ConfigError: There is no such model or revision, or the hub cannot be reached and no commit
            was fetched before.
    """
    if model.architecture is not None or locate(model.name, PATH) is not None:
        return model
    try:
        found: ResolvedRevision = resolve_revision(model.name, revision=model.revision)
    except (HfHubHTTPError, HFValidationError, RevisionResolutionError, OSError) as error:
        reason = str(error).strip().partition("\n")[0]
        message = (
            f"is not a directory here, and its commit on the hub cannot be found: {reason}; "
            "check the name and model.revision, or fetch the model where there is a network"
        )
        raise ConfigError(Problem(PATH, message, model.name)) from error
    return model.model_copy(update={"revision": found.resolved})


def pinned(config: Config) -> Config:
    """Return FILE with its model pinned: every process and every later command means this commit.

    A model that cannot be found is left as it is: the check of FILE reports it with all else. So is
    FILE where models are searched.
    """
    keys = ("model.name", "model.revision")
    found = [searched_values(arm, key) for arm in by_arm(config).values() for key in keys]
    if any(each not in ([config.model.name], [config.model.revision]) for each in found):
        return config
    try:
        return config.model_copy(update={"model": pinned_model(config.model)})
    except ConfigError:
        return config
