"""Checkpoints that two ranks write and read (a job of ``lives_worker``)."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hft_ray.artifacts import ArtifactError
from hft_ray.ranks import Ranks
from hft_ray.training import checkpoint_reader, checkpoint_writer
from hft_ray.training.checkpoint import CheckpointManifest
from hft_ray.training.checkpoint_reader import CheckpointReader
from hft_ray.training.partitioned import share
from hft_ray.training.tensor_parts import part_name

LENGTHS = {"even": 8, "odd": 7, "one": 1}


def manifest(step: int) -> CheckpointManifest:
    """Return a manifest that says nothing but the step."""
    empty = {"model": "", "data": "", "settings": {}, "selection": "", "parameters": []}
    more = {"history": {}, "touched": [], "steps": {}, "rounds": [], "variants": []}
    last = {"sequence": [], "losses": [], "seconds": 0.0, "ranks": 1, "round": 0, "step": step}
    return CheckpointManifest.model_validate(empty | more | last)


def numbers(name: str) -> Tensor:
    """Return the state of a parameter."""
    return torch.arange(LENGTHS[name], dtype=torch.float32) + len(name)


def parts(ranks: Ranks) -> Iterable[tuple[str, Tensor]]:
    """Yield what a rank writes."""
    for name, length in LENGTHS.items():
        span = share(length, ranks)
        if len(span):
            key = part_name(f"weight/{name}", span.start)
            yield key, numbers(name)[span.start : span.stop]
    yield f"random/{ranks.rank}", torch.full((2, 3), ranks.rank, dtype=torch.uint8)


def write_and_read(ranks: Ranks, root: Path, out: str) -> dict[str, Any]:
    folder = Path(out)
    spans = {name: share(length, ranks) for name, length in LENGTHS.items()}
    read: list[str] = []
    plain = checkpoint_reader.read_verified

    def counted(path: Path, digest: str) -> dict[str, Tensor]:
        read.append(path.name)
        return plain(path, digest)

    checkpoint_reader.read_verified = counted  # type: ignore[attr-defined]
    with checkpoint_writer.checkpoint_writer(folder, 2, ranks) as writer:
        writer.save(manifest(1), parts(ranks))
        writer.save(manifest(2), parts(ranks))
    cpu = torch.device("cpu")
    found: dict[str, Any] = {}
    for kind, wanted in (("partitioned", spans), ("whole", {})):
        one, _ = CheckpointReader(ranks, cpu, wanted).newest(folder, None)
        assert one is not None
        found[kind] = {name: x.tolist() for name, x in (one.state | one.beside).items()}
    found["read"] = read[: len(read) // 2]
    found["unwritten"] = _unwritten(ranks, folder)
    # One rank reads the damaged file, and all have to hear of it.
    if ranks.main:
        path = folder / "step-00000002" / "state-00001-00000.safetensors"
        path.write_bytes(path.read_bytes()[:-1])
    ranks.barrier()
    one, problems = CheckpointReader(ranks, cpu, spans).newest(folder, None)
    assert one is not None
    found["damaged"] = [one.manifest.step, problems]
    return found


def _unwritten(ranks: Ranks, folder: Path) -> dict[str, str]:
    """Return what every rank raises when one of them cannot write its part."""
    said = {}
    plain = checkpoint_writer.write_tensors
    errors = {
        "full": OSError(28, "No space left on device"),
        "of native code": ValueError("No space left on device"),
        "of an artifact": ArtifactError("not here"),
    }
    for kind, error in errors.items():

        def failing(*arguments: Any, error: Exception = error) -> dict[str, str]:
            if ranks.rank == 1:
                raise error
            return plain(*arguments)

        checkpoint_writer.write_tensors = failing  # type: ignore[attr-defined]
        try:
            with checkpoint_writer.checkpoint_writer(folder, 2, ranks) as writer:
                writer.save(manifest(3), parts(ranks))
        except Exception as caught:  # noqa: BLE001 - what it is, is the question
            said[kind] = f"{type(caught).__name__}: {caught}"
    checkpoint_writer.write_tensors = plain  # type: ignore[attr-defined]
    ranks.barrier()  # rank 0 deletes what was written
    return said | {"left": ", ".join(sorted(path.name for path in folder.iterdir()))}
