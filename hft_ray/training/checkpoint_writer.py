"""Writing checkpoints while training goes on.

Training waits until each rank has copied its part of the state to the host's memory. A thread
writes the copy; when the threads of all ranks have done so, that of rank 0 makes it a checkpoint.
"""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from hft_ray.artifacts import ArtifactError, Mirror, delete_partial
from hft_ray.artifacts.whole import PARTIAL
from hft_ray.background import in_a_line
from hft_ray.ranks import Ranks
from hft_ray.training.checkpoint import (
    MANIFEST,
    CheckpointError,
    CheckpointManifest,
    checkpoint_name,
    checkpoints,
)
from hft_ray.training.tensor_files import write_tensors


class CheckpointWriter:
    """Writes the checkpoints of one run. Methods are collectives; see :func:`checkpoint_writer`.

    Args:
        folder: Folder of the run's checkpoints, the same one for every rank.
        keep: Checkpoints to keep.
        ranks: The processes that train together, in a group of their own.
        thread: Where to write.
        mirror: Where the same checkpoints are kept once more.
        saved: Called with the step of every checkpoint that is whole, on rank 0, in the thread.
    """

    def __init__(
        self,
        folder: Path,
        keep: int,
        ranks: Ranks,
        thread: ThreadPoolExecutor,
        mirror: Mirror | None,
        saved: Callable[[int], None],
    ) -> None:
        self._folder, self._keep, self._ranks = folder, keep, ranks
        self._thread, self._mirror, self._saved = thread, mirror, saved
        # What an earlier process of this run still writes, where it was lost, is another folder's.
        self._token = ranks.broadcast(uuid.uuid4().hex[:12])
        self._copies: dict[str, Tensor] = {}
        self._pending: Future[None] | None = None

    def save(self, manifest: CheckpointManifest, tensors: Iterable[tuple[str, Tensor]]) -> None:
        """Copy what this rank writes and have it written; waits for the checkpoint before.

        Args:
            manifest: What is not a tensor.
            tensors: Name -> tensor or part of one, on any device. No name is on two ranks.

        Raises:
            MirrorError: The mirror did not take the checkpoint before; the folder has it.
            Exception: That one could not be written; on every rank the same.
        """
        self.wait()
        self._copy(tensors)
        self._pending = self._thread.submit(self._write, manifest)

    def wait(self) -> None:
        """Wait until nothing is to be written any more; raises as :meth:`save`."""
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def _copy(self, tensors: Iterable[tuple[str, Tensor]]) -> None:
        # Memory that was written to before takes a third of the time of fresh memory.
        before, self._copies = self._copies, {}
        for name, tensor in tensors:
            copy = before.pop(name, None)
            if copy is None or copy.shape != tensor.shape or copy.dtype != tensor.dtype:
                copy = torch.empty(tensor.shape, dtype=tensor.dtype)
            self._copies[name] = copy.copy_(tensor)

    def _write(self, manifest: CheckpointManifest) -> None:
        partial = self._folder / f"{PARTIAL}{checkpoint_name(manifest.step)}-{self._token}"
        files: dict[str, str] = {}

        def write() -> None:
            partial.mkdir(parents=True, exist_ok=True)
            stem = f"state-{self._ranks.rank:05d}"
            files.update(write_tensors(partial, self._copies.items(), stem))

        try:
            self._together(write)
            for each in self._ranks.gather(dict(files)):
                files.update(each)
            whole = manifest.model_copy(update={"files": files})
            self._together(lambda: self._finish(partial, whole) if self._ranks.main else None)
        finally:
            if self._ranks.main:
                shutil.rmtree(partial, ignore_errors=True)

    def _together(self, work: Callable[[], None]) -> None:
        """Do a rank's part of some work; an error on one rank is raised on all."""
        error: Exception | None = None
        try:
            work()
        except (OSError, ArtifactError) as caught:
            error = caught
        except Exception as caught:  # noqa: BLE001 - the others wait for an answer
            # Errors of native code cannot be sent to other processes.
            error = RuntimeError(in_a_line(caught))
        for each in self._ranks.gather((error,)):
            if each[0] is not None:
                raise each[0]

    def _finish(self, partial: Path, manifest: CheckpointManifest) -> None:
        """Make a checkpoint of what all ranks have written, and delete those that are too many."""
        missing = [name for name in manifest.files if not (partial / name).is_file()]
        if missing:
            raise CheckpointError(
                f"{partial} lacks {missing[0]}, which another rank has written there; "
                "give a folder on storage that all nodes share"
            )
        manifest.write(partial / MANIFEST)
        target = self._folder / checkpoint_name(manifest.step)
        shutil.rmtree(target, ignore_errors=True)
        partial.replace(target)
        # A later step was written before and is damaged, or the run would have gone on from there.
        found = checkpoints(self._folder)
        at = found.index(target)
        for old in found[:at] + found[at + self._keep :]:
            shutil.rmtree(old, ignore_errors=True)
        if self._mirror is not None:
            self._mirror.put(target, target.name)
            kept = {path.name for path in checkpoints(self._folder)}
            for name in set(self._mirror.names()) - kept:
                self._mirror.delete(name)
        self._saved(manifest.step)


@contextmanager
def checkpoint_writer(
    folder: Path,
    keep: int,
    ranks: Ranks,
    mirror: Mirror | None = None,
    saved: Callable[[int], None] = lambda step: None,
) -> Iterator[CheckpointWriter]:
    """Yield a writer of checkpoints; at the end of the block all of them are written.

    A collective; arguments as for :class:`CheckpointWriter`. Raises as its :meth:`save`.
    """
    if ranks.main:
        delete_partial(folder)
    with ranks.apart() as apart, ThreadPoolExecutor(1, "checkpoints") as thread:
        writer = CheckpointWriter(folder, keep, apart, thread, mirror, saved)
        yield writer
        writer.wait()
