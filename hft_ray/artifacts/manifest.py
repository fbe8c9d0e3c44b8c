"""Manifests: what an artifact holds, and whether it still holds it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from hft_ray.artifacts.whole import sync
from hft_ray.strict_json import dumps_exact, loads_exact

T = TypeVar("T")
Found = TypeVar("Found")


class ArtifactError(RuntimeError):
    """An artifact is missing or damaged; the message says which one and why."""


def _within(name: str) -> str:
    if Path(name).name != name or name in ("", ".."):
        raise ValueError(f"names a file outside its folder: {name}")
    return name


FileName = Annotated[str, AfterValidator(_within)]
"""Name of a file in the artifact's folder."""


class Manifest(BaseModel):
    """A JSON file that says what the folder around it holds.

    Subclasses add what the artifact is of.

    Attributes:
        files: File name -> what is known of the file, by default its SHA-256.
        signed: Whether the manifest has a SHA-256 of its own, under ``sha256``.
    """

    model_config = ConfigDict(frozen=True)
    signed: ClassVar[bool] = False
    files: dict[FileName, Any] = Field(default_factory=dict)

    def write(self, path: Path) -> None:
        """Write the manifest, as the last file of its folder."""
        content = self.model_dump()
        if self.signed:
            content["sha256"] = _digest(content)
        path.write_text(dumps_exact(content), encoding="utf-8")
        sync(path)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Return the manifest in a file.

        Raises:
            ArtifactError: The file is missing or damaged.
        """
        try:
            content = loads_exact(path.read_bytes())
            if cls.signed and (
                not isinstance(content, dict) or content.pop("sha256", None) != _digest(content)
            ):
                raise ValueError("its checksum is not its own")
            return cls.model_validate(content)
        except OSError as error:
            reason = error.strerror or error
            raise ArtifactError(f"{path.parent}: {path.name} cannot be read: {reason}") from error
        except ValidationError as error:
            first = error.errors()[0]
            reason = f"{'.'.join(map(str, first['loc'][:1]))}: {first['msg']}"
            problem = f"{path.name} is damaged, or of another version of hft-ray: {reason}"
            raise ArtifactError(f"{path.parent}: {problem}") from error
        except ValueError as error:
            raise ArtifactError(f"{path.parent}: {path.name} is damaged: {error}") from error


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def verify(folder: Path, files: Mapping[str, str]) -> None:
    """Read every file of an artifact.

    Args:
        folder: The artifact.
        files: File name -> SHA-256.

    Raises:
        ArtifactError: A file is missing, cut short or changed.
    """
    for name, expected in files.items():
        try:
            found = sha256_of(folder / name)
        except OSError as error:
            raise ArtifactError(f"{folder}: {name} is missing: {error.strerror}") from error
        if found != expected:
            raise ArtifactError(damaged(folder / name))


def damaged(path: Path) -> str:
    """Return what is said of a file whose SHA-256 is another one."""
    return f"{path.parent}: {path.name} is damaged: its checksum is not the manifest's"


def newest_whole(
    newest_first: Iterable[T], read: Callable[[T], Found]
) -> tuple[Found | None, list[str]]:
    """Return the newest artifact that can be read, and what is wrong with the newer ones.

    Args:
        newest_first: The artifacts.
        read: Reads one; raises :class:`ArtifactError` where it is damaged.
    """
    problems: list[str] = []
    for each in newest_first:
        try:
            return read(each), problems
        except ArtifactError as error:
            problems.append(str(error))
    return None, problems
