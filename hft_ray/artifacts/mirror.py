"""Copies of folders in an object store, or in another folder: whole or not at all, and verified.

A copy is the folder's files and, written last, ``copy.json`` with the SHA-256 of each. A folder
without this list is not a copy, so a process that is killed on the way leaves none. Endpoint and
keys of S3 come from the environment that Amazon's own tools read: ``AWS_ENDPOINT_URL``,
``AWS_ACCESS_KEY_ID``, ``AWS_SECRET_ACCESS_KEY``, ``AWS_REGION``.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import TypeAdapter, ValidationError

from hft_ray.artifacts.manifest import ArtifactError, FileName
from hft_ray.artifacts.whole import new_folder

S3 = "s3://"
LIST = "copy.json"
_LIST_CONTENT = TypeAdapter(dict[FileName, str])
_CHUNK = 1 << 20


class MirrorError(ArtifactError):
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
            MirrorError: The store refuses it; no copy of that name is left then.
        """
        with self._telling(f"{name} cannot be written"):
            store, place = self.located(name)
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
        with new_folder(folder, replace=True) as partial, self._telling(f"{name} cannot be read"):
            store, place = self.located(name)
            for file, digest in _listed(store, place).items():
                with (
                    store.open_input_stream(f"{place}/{file}") as source,
                    (partial / file).open("wb") as target,
                ):
                    if _copy(source, target) != digest:
                        raise ValueError(f"{file} is damaged: its checksum is not the list's")

    def names(self) -> list[str]:
        """Return the names of all copies here, ``a/b`` in a place within; some may be damaged.

        Raises:
            MirrorError: The store does not answer.
        """
        from pyarrow.fs import FileSelector

        with self._telling("cannot be listed"):
            store, place = self.located("")
            selector = FileSelector(place, recursive=True, allow_not_found=True)
            paths = [PurePosixPath(info.path) for info in store.get_file_info(selector)]
        return sorted(str(path.parent.relative_to(place)) for path in paths if path.name == LIST)

    def delete(self, name: str) -> None:
        """Delete a copy, or all copies of the place within of that name, if there are any.

        Raises:
            MirrorError: The store does not answer.
        """
        with self._telling(f"{name} cannot be deleted"):
            _delete(*self.located(name))

    def located(self, name: str) -> tuple[Any, str]:
        """Return pyarrow's file system for a copy, and the path of the copy's folder in it."""
        store = _s3_store(*_environment()) if self.uri.startswith(S3) else _local_store()
        return store, str(PurePosixPath(self.uri.removeprefix(S3)) / name)

    @contextmanager
    def _telling(self, what: str) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise MirrorError(f"{self.uri}: {what}: {reason}") from error


def _environment() -> tuple[str | None, str]:
    """Return endpoint and region of S3."""
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"
    return endpoint, region


def _local_store() -> Any:
    from pyarrow.fs import LocalFileSystem

    return LocalFileSystem()


@lru_cache(maxsize=2)
def _s3_store(endpoint: str | None, region: str) -> Any:
    """Return a client of S3; it takes long to make, and threads may share it."""
    from pyarrow.fs import AwsStandardS3RetryStrategy, S3FileSystem

    return S3FileSystem(
        endpoint_override=endpoint,
        region=region,
        connect_timeout=10,
        request_timeout=60,
        retry_strategy=AwsStandardS3RetryStrategy(max_attempts=3),
    )


def _delete(store: Any, place: str) -> None:
    from pyarrow.fs import FileSelector

    selector = FileSelector(place, recursive=True, allow_not_found=True)
    found = [info for info in store.get_file_info(selector) if info.is_file]
    # Without its list it is not a copy any more.
    for info in sorted(found, key=lambda each: each.base_name != LIST):
        store.delete_file(info.path)
    if Path(place).is_absolute():  # an object store has no folders that could be left
        shutil.rmtree(place, ignore_errors=True)


def _listed(store: Any, place: str) -> dict[str, str]:
    """Return file name -> SHA-256 of a copy.

    Raises:
        ValueError: The list is damaged, or names a file elsewhere.
    """
    with store.open_input_stream(f"{place}/{LIST}") as source:
        content = source.read()
    try:
        return _LIST_CONTENT.validate_json(content)
    except ValidationError as error:
        raise ValueError(f"{LIST} is damaged") from error


def _copy(source: Any, target: Any) -> str:
    """Copy a stream; return its SHA-256."""
    digest = hashlib.sha256()
    while chunk := source.read(_CHUNK):
        digest.update(chunk)
        target.write(chunk)
    return digest.hexdigest()
