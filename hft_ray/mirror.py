"""Copies of folders in an object store, or in another folder: whole or not at all, and verified.

A copy is the folder's files and, written last, ``copy.json`` with the SHA-256 of each. What has no
such list is not there, so whoever is killed on the way leaves nothing that could be mistaken for a
copy. Endpoint and keys of S3 come from the environment that Amazon's own tools read:
``AWS_ENDPOINT_URL``, ``AWS_ACCESS_KEY_ID``, ``AWS_SECRET_ACCESS_KEY``, ``AWS_REGION``.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

S3 = "s3://"
LIST = "copy.json"
PARTIAL = ".partial-"
"""How the name of a folder begins that is being fetched."""
_CHUNK = 1 << 20


class MirrorError(RuntimeError):
    """A copy cannot be written or read; the message says which and why."""


@dataclass(frozen=True)
class Mirror:
    """A place for copies.

    Attributes:
        uri: ``s3://BUCKET/PREFIX``, or an absolute path.
    """

    uri: str

    def __truediv__(self, name: str) -> Mirror:
        """Return a place within this one."""
        return Mirror(f"{self.uri.rstrip('/')}/{name}")

    def put(self, folder: Path, name: str) -> None:
        """Copy the files in ``folder``, which has no folders; a copy of that name is replaced.

        Raises:
            MirrorError: The store does not take it; under the name there is no copy then.
        """
        with self._telling(f"{name} cannot be written"):
            store, place = self._at(name)
            _delete(store, place)
            if not self.uri.startswith(S3):
                store.create_dir(place, recursive=True)
            files = {}
            for path in sorted(folder.iterdir()):
                with (
                    path.open("rb") as source,
                    store.open_output_stream(f"{place}/{path.name}") as target,
                ):
                    files[path.name] = _copy(source, target)
            with store.open_output_stream(f"{place}/{LIST}") as target:
                target.write(json.dumps(files).encode())

    def get(self, name: str, folder: Path) -> None:
        """Fetch a copy to ``folder``, whole or not at all; what is there is replaced.

        Raises:
            MirrorError: There is no such copy, it is damaged, or the store does not answer.
        """
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(dir=folder.parent, prefix=PARTIAL))
        try:
            with self._telling(f"{name} cannot be read"):
                store, place = self._at(name)
                for file, digest in _listed(store, place).items():
                    with (
                        store.open_input_stream(f"{place}/{file}") as source,
                        (partial / file).open("wb") as target,
                    ):
                        if _copy(source, target) != digest:
                            raise ValueError(f"{file} is damaged: its checksum is another")
            shutil.rmtree(folder, ignore_errors=True)
            partial.replace(folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    def names(self) -> list[str]:
        """Return the names of all copies here, ``a/b`` in a place within; some may be damaged.

        Raises:
            MirrorError: The store does not answer.
        """
        from pyarrow.fs import FileSelector

        with self._telling("cannot be listed"):
            store, place = self._at("")
            selector = FileSelector(place, recursive=True, allow_not_found=True)
            paths = [PurePosixPath(info.path) for info in store.get_file_info(selector)]
        return sorted(str(path.parent.relative_to(place)) for path in paths if path.name == LIST)

    def delete(self, name: str) -> None:
        """Delete a copy, or all copies of the place within of that name, if there are any.

        Raises:
            MirrorError: The store does not answer.
        """
        with self._telling(f"{name} cannot be deleted"):
            _delete(*self._at(name))

    def _at(self, name: str) -> tuple[Any, str]:
        store = _store(self.uri.startswith(S3))
        return store, str(PurePosixPath(self.uri.removeprefix(S3)) / name)

    @contextmanager
    def _telling(self, what: str) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise MirrorError(f"{self.uri}: {what}: {reason}") from error


@lru_cache(maxsize=2)
def _store(is_s3: bool) -> Any:
    """Return the file system; an S3 client is dear to make, and threads may share it."""
    from pyarrow.fs import AwsStandardS3RetryStrategy, LocalFileSystem, S3FileSystem

    if not is_s3:
        return LocalFileSystem()
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    return S3FileSystem(
        endpoint_override=endpoint,
        region=os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1",
        connect_timeout=10,
        request_timeout=60,
        retry_strategy=AwsStandardS3RetryStrategy(max_attempts=3),
    )


def _delete(store: Any, place: str) -> None:
    from pyarrow.fs import FileSelector

    selector = FileSelector(place, recursive=True, allow_not_found=True)
    found = [info for info in store.get_file_info(selector) if info.is_file]
    # What has lost its list is no copy any more.
    for info in sorted(found, key=lambda each: each.base_name != LIST):
        store.delete_file(info.path)


def _listed(store: Any, place: str) -> dict[str, str]:
    """Return file name -> SHA-256 of a copy.

    Raises:
        ValueError: The list is damaged, or names a file elsewhere.
    """
    with store.open_input_stream(f"{place}/{LIST}") as source:
        files = json.loads(source.read())
    if not isinstance(files, dict) or any(Path(name).name != name for name in files):
        raise ValueError(f"{LIST} is damaged")
    return files


def _copy(source: Any, target: Any) -> str:
    """Copy a stream; return its SHA-256."""
    digest = hashlib.sha256()
    while chunk := source.read(_CHUNK):
        digest.update(chunk)
        target.write(chunk)
    return digest.hexdigest()
