"""The process group of a run without Ray: alone, or one rank of torchrun."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
import torch.distributed as dist

from hft_ray.ranks import Ranks


def start_deepspeed() -> None:
    """Put DeepSpeed on the process group that is there, without compiling and without chatter.

    It must know the group before a model is loaded: ZeRO-3 partitions while loading.
    """
    import deepspeed

    from hft_ray.compat.deepspeed import build_no_shared_memory_operator

    build_no_shared_memory_operator()
    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    deepspeed.init_distributed(dist_init_required=False)


def local_device() -> torch.device:
    """Return this process's device: the GPU of its local rank where there is one, else the CPU."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    torch.cuda.set_device(device)
    return device


@contextmanager
def process_group() -> Iterator[Ranks]:
    """Join torchrun's process group, or make one of this process alone; leave it at the end."""
    backend = "nccl" if torch.cuda.is_available() else "gloo"
    if "WORLD_SIZE" in os.environ:
        dist.init_process_group(backend)
        try:
            yield Ranks(dist.get_rank(), dist.get_world_size())
        finally:
            dist.destroy_process_group()
        return
    with tempfile.TemporaryDirectory(prefix="hft-ray-") as folder:
        # A file as the meeting point: no port is opened and none can be taken.
        store = dist.FileStore(str(Path(folder) / "store"), 1)  # type: ignore[attr-defined]
        ours = "LOCAL_RANK" not in os.environ  # DeepSpeed asks for it
        os.environ.setdefault("LOCAL_RANK", "0")
        dist.init_process_group(backend, store=store, rank=0, world_size=1)
        try:
            yield Ranks()
        finally:
            dist.destroy_process_group()
            if ours:
                # Code that finds it later would look for a launcher's process group.
                del os.environ["LOCAL_RANK"]
