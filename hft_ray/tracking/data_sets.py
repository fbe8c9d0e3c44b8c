"""Data sets as MLflow's inputs of runs."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from hft_ray.tracking import names

DIGEST = 8
"""Characters of a digest, as MLflow itself has."""


@dataclass(frozen=True)
class DataSet:
    """Data that a sweep reads.

    Attributes:
        name: Name of the evaluation, or of the file that is trained on.
        digest: Hash of its content.
        source: Path or hub name.
        context: ``training``, ``task`` or ``general``.
        split: Split, of a hub data set; None for a file.
    """

    name: str
    digest: str
    source: str
    context: str
    split: str | None = None

    @property
    def reference(self) -> list[str]:
        """Name and digest, which identify it in an experiment."""
        return [self.name, self.digest[:DIGEST]]

    def encoded(self) -> dict[str, str]:
        """Return it as text; ``source`` is JSON that ``mlflow.data.get_source`` reads."""
        source: dict[str, str]
        if self.split is None:
            kind, source = "local", {"uri": self.source}
        else:
            kind, source = "hugging_face", {"path": self.source, "split": self.split}
        name, digest = self.reference
        place = {"source_type": kind, "source": json.dumps(source)}
        return {"name": name, "digest": digest, **place, "context": self.context}


def has_inputs(inputs: Any) -> bool:
    """Return whether the inputs of a run (None from an old server) hold any."""
    return inputs is not None and bool(inputs.dataset_inputs or inputs.model_inputs)


def decoded(data: dict[str, str]) -> Any:
    """Return an ``mlflow.entities.DatasetInput`` of what :meth:`DataSet.encoded` returned."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    fields = {key: text for key, text in data.items() if key != "context"}
    return DatasetInput(Dataset(**fields), [InputTag(names.CONTEXT, data["context"])])
