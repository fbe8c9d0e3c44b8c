"""Section ``cluster`` of FILE."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from hft_ray.config.sections.section import PositiveInt, Section

_BUCKET = re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[\w.=+-]+)*/?", re.ASCII)


def checked_mirror(uri: str) -> str:
    """Return the address of a place for copies.

    Raises:
        ValueError: It is none.
    """
    parts = uri.split("/")
    if ".." in parts or not (_BUCKET.fullmatch(uri) or Path(uri).is_absolute()):
        raise ValueError("must be s3://BUCKET/PREFIX or an absolute path")
    return uri


class Cluster(Section):
    """How many workers train, and with what."""

    groups: PositiveInt = 1
    """Worker groups: trials that run at the same time."""
    min_groups: PositiveInt | None = None
    """Groups that must fit when the sweep begins; the others start whenever nodes join that have
    room for them, and trials of nodes that leave go to those that are left. Default: all."""
    workers: PositiveInt = 1
    """Workers (ranks) of one group."""
    gpus_per_worker: Annotated[float, Field(ge=0)] = 0
    """GPUs of one worker, whole or a share: with 0.5 two groups of one worker train on one GPU."""
    cpus_per_worker: Annotated[float, Field(gt=0)] = 1
    """CPU cores of one worker, and its number of threads."""
    retries: Annotated[int, Field(ge=0)] = 2
    """How often a trial whose worker died is retried."""
    placement: Literal["pack", "spread"] = "pack"
    """A group's workers: on as few nodes as can be, or on as many."""
    mirror: str | None = None
    """Where checkpoints and kept weights are copied to, and fetched from where they are missing:
    s3://BUCKET/PREFIX (endpoint and keys come from the environment), or an absolute path."""

    price_per_device_hour: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    """Price of one device (a GPU; without GPUs a worker) for an hour, in any currency; plan, status
    and report then show what the sweep costs."""

    @model_validator(mode="after")
    def _least_and_most(self) -> Cluster:
        if self.min_groups is not None and self.min_groups > self.groups:
            raise ValueError(f"min_groups {self.min_groups} is more than groups {self.groups}")
        return self

    @model_validator(mode="after")
    def _shares_of_gpus(self) -> Cluster:
        gpus = self.gpus_per_worker
        if gpus > 1 and not gpus.is_integer():
            raise ValueError(f"gpus_per_worker {gpus:g} is neither below 1 nor whole")
        if 0 < gpus <= 0.5 and self.workers > 1:
            raise ValueError(
                f"with gpus_per_worker {gpus:g} two of a group's {self.workers} workers could come "
                "to one GPU, which NCCL refuses; give workers: 1, or more than half a GPU to each"
            )
        return self

    @property
    def needed_groups(self) -> int:
        """Groups without which a sweep does not begin."""
        return self.groups if self.min_groups is None else self.min_groups

    @field_validator("mirror")
    @classmethod
    def _some_place(cls, uri: str | None) -> str | None:
        return None if uri is None else checked_mirror(uri)
