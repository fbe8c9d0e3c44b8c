"""Scores of single items, kept of every point of a sweep: points are compared item by item.

Symbols: E evaluations, n_e items of evaluation e, M metrics, K clusters of all evaluations.

    x (n_e,)   score of each item; R its weighted mean with weights w
    D (M, 2E)  derivative of each metric by the score of each evaluation: the model's, the base's
    A (K,)     influence of each cluster on a metric

A cluster is what was drawn together: the items of one ``group``, else a single item. With G
clusters in evaluation e, and the sum in the numerator over the items i of cluster k,

    A_k = sqrt(G / (G - 1)) sum_i w_i (D_e (x_i - R_e) + D_{E+e} (b_i - B_e)) / sum_i w_i

with the base's item scores b and mean B. So sum_k A_k^2 is the squared standard error of the metric
(see :mod:`hft_ray.evaluation.score`), paired with the base where the metric compares with it.

One file holds one model (:meth:`ItemScores.write`) or, for tracking, those of a whole sweep
(:func:`write_all`), in the safetensors format: scores that are all 0 or 1 take a byte each, others
four.
"""

from __future__ import annotations

import json
import logging
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

Array = NDArray[np.float64]
Arrays = Mapping[str, NDArray[np.generic]]
BASE = "base"
"""Name of the untouched model among those of a sweep."""
SUFFIX = ".safetensors"
_BETWEEN = "\t"
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ItemScores:
    """What one model scored on every item.

    Attributes:
        items: Evaluation -> x.
        metrics: Names of the metrics.
        gradient: D, its columns in the order of ``items``.
        weights: Evaluation -> w, where not all items weigh the same. Of the base alone.
        groups: Evaluation -> number of each item's cluster, where items have groups. Of the base
            alone.
        identities: Evaluation -> hash of its settings and data: equal ones have the same items. Of
            the base alone.
    """

    items: Arrays
    metrics: tuple[str, ...]
    gradient: NDArray[np.float32]
    weights: Arrays = field(default_factory=dict)
    groups: Arrays = field(default_factory=dict)
    identities: Mapping[str, str] = field(default_factory=dict)

    def write(self, path: Path) -> None:
        """Write one model's scores; a reader sees all of them or the file that was there."""
        write_all(path, {"": self})


@dataclass(frozen=True)
class Sample:
    """The items that all models of a sweep answer, as the base's scores tell them.

    Attributes:
        base: The base's scores.
    """

    base: ItemScores

    @cached_property
    def _clusters(self) -> dict[str, NDArray[np.int64]]:
        """Evaluation -> number of each item's cluster, from 0."""
        found = {}
        for name, x in self.base.items.items():
            groups = self.base.groups.get(name, np.arange(len(x)))
            found[name] = np.unique(groups, return_inverse=True)[1]
        return found

    @cached_property
    def clusters(self) -> tuple[tuple[str, int], ...]:
        """Identity of the evaluation and number in it of each cluster, (K,)."""
        return tuple(
            (self.base.identities[name], number)
            for name, places in self._clusters.items()
            for number in range(int(places.max()) + 1)
        )

    @cached_property
    def _places(self) -> list[slice]:
        """Where the clusters of each evaluation are among all."""
        ends = np.cumsum([int(places.max()) + 1 for places in self._clusters.values()]).tolist()
        return [slice(start, end) for start, end in zip([0, *ends], ends, strict=False)]

    @cached_property
    def _base(self) -> Array | None:
        return self.centred(self.base)

    def centred(self, model: ItemScores) -> Array | None:
        """Return what clusters contribute to the error of the evaluations themselves, (K,).

        The sum of an evaluation's squares is the squared standard error of its score. None when
        the model was scored on other items than the base.
        """
        if list(model.items) != list(self.base.items):
            return None
        parts = []
        for name, clusters in self._clusters.items():
            x = model.items[name].astype(float)
            if len(x) != len(clusters):
                return None
            w = np.asarray(self.base.weights.get(name, np.ones(len(x))), dtype=float)
            w = w / w.sum()
            count = int(clusters.max()) + 1
            scale = np.sqrt(count / (count - 1)) if count > 1 else 0.0
            parts.append(scale * np.bincount(clusters, w * (x - w @ x), count))
        return np.concatenate(parts)

    def influence(
        self, model: ItemScores, metric: str, centred: Array | None = None
    ) -> Array | None:
        """Return A of a metric of ``model``, (K,); None where items do not make up the metric.

        A metric is not made up of items when it is none of the model's, or when the model was
        scored on other items than the base.

        Args:
            model: The model.
            metric: The metric.
            centred: Of the model, where it is known.
        """
        own = self.centred(model) if centred is None else centred
        if metric not in model.metrics or own is None or self._base is None:
            return None
        row, half = model.gradient[model.metrics.index(metric)].astype(float), len(model.items)
        found = np.zeros(len(own))
        for slopes, each in ((row[:half], own), (row[half:], self._base)):
            # A score that is not a number says nothing of metrics that do not hold it.
            for evaluation in np.flatnonzero(slopes):
                place = self._places[evaluation]
                found[place] += slopes[evaluation] * each[place]
        return found if np.isfinite(found).all() else None


@dataclass(frozen=True)
class Answers:
    """One model's item scores among those of its sweep (a ``hft_ray.pareto`` ``Answers``)."""

    sample: Sample
    model: ItemScores

    @property
    def items(self) -> tuple[tuple[str, int], ...]:
        """The clusters of items that all models of the sweep answer, (K,)."""
        return self.sample.clusters

    @cached_property
    def _centred(self) -> Array | None:
        return self.sample.centred(self.model)

    def influence(self, metric: str) -> Array | None:
        """Return what each cluster contributes to the error of a metric, (K,); see Sample."""
        if self._centred is None:
            return None
        return self.sample.influence(self.model, metric, self._centred)


def write_all(path: Path, models: Mapping[str, ItemScores]) -> None:
    """Write the scores of several models, by name, into one file."""
    tensors: dict[str, NDArray[np.generic]] = {}
    facts: dict[str, dict[str, object]] = {}
    for key, model in models.items():
        facts[key] = {
            "evaluations": list(model.items),
            "metrics": list(model.metrics),
            "identities": dict(model.identities),
        }
        kinds = {"items": model.items, "weights": model.weights, "groups": model.groups}
        tensors[_BETWEEN.join((key, "gradient"))] = np.ascontiguousarray(model.gradient)
        for kind, arrays in kinds.items():
            for name, array in arrays.items():
                tensors[_BETWEEN.join((key, kind, name))] = _compact(array)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, partial = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
    os.close(handle)
    try:
        save_file(tensors, partial, {"models": json.dumps(facts)})
        Path(partial).replace(path)
    finally:
        Path(partial).unlink(missing_ok=True)


def read_all(path: Path) -> dict[str, ItemScores]:
    """Return the scores of the models in a file, by name; none of one missing or damaged.

    Damage is reported in a warning: points without item scores are compared as if they erred
    independently, so nothing else is lost.
    """
    try:
        with safe_open(path, "numpy") as file:
            facts = json.loads(file.metadata()["models"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return {key: _model(key, each, tensors) for key, each in facts.items()}
    except FileNotFoundError:
        return {}
    # What a file holds that another program wrote, or half of one that was ours.
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, AttributeError) as error:
        log.warning("scores of single items are left out, %s is damaged: %s", path, error)
        return {}


def read_one(path: Path) -> ItemScores | None:
    """Return one model's scores; None where there are none, or they are damaged."""
    return read_all(path).get("")


def _model(key: str, facts: Mapping[str, object], tensors: Arrays) -> ItemScores:
    evaluations: list[str] = facts["evaluations"]  # type: ignore[assignment]
    metrics: list[str] = facts["metrics"]  # type: ignore[assignment]
    identities: dict[str, str] = facts["identities"]  # type: ignore[assignment]

    def kind(which: str) -> dict[str, NDArray[np.generic]]:
        places = {name: _BETWEEN.join((key, which, name)) for name in evaluations}
        return {name: tensors[place] for name, place in places.items() if place in tensors}

    gradient = tensors[_BETWEEN.join((key, "gradient"))].astype(np.float32)
    parts = (kind("items"), tuple(metrics), gradient, kind("weights"), kind("groups"), identities)
    return ItemScores(*parts)


def _compact(array: NDArray[np.generic]) -> NDArray[np.generic]:
    """Return whole numbers in as few bytes as they need, others as single precision."""
    values = np.asarray(array)
    if values.size and np.isfinite(values).all() and (values == np.floor(values)).all():
        for kind in (np.uint8, np.int32):
            if np.iinfo(kind).min <= values.min() and values.max() <= np.iinfo(kind).max:
                return values.astype(kind)
    return values.astype(np.float32)
