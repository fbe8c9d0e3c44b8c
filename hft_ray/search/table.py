"""Recorded or made-up learning curves, from which a sweep is replayed without training.

A table is a file of rows ``{"params", "step", "metrics", "seconds"}``, as JSON lines
(``.gz``: compressed) or Parquet:

    params   dotted key -> value; settings that are left out have FILE's value
    step     optimizer step of the scores; the rows of a curve go up to its last step
    metrics  metric -> value
    seconds  time since the trial began, training and scores together
    failed   instead of metrics: the trial fails at this step, for this reason
    variant  the scores are those of a variant of the model at this step, such as alpha-0.5

Rows with equal ``params`` are one curve, unless their steps repeat: then each repetition is another
curve (another seed). Step 0 holds the scores of the untouched model. In Parquet, ``params`` and
``metrics`` are structs or JSON text.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import math
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hft_ray.config import Config, ConfigError, Interval, Problem
from hft_ray.config.keys import settings


@dataclass(frozen=True)
class RecordedVariant:
    """Scores of a variant, and the time that it took to make and score it."""

    metrics: dict[str, float]
    seconds: float


@dataclass(frozen=True)
class CurvePoint:
    """One row of a curve, and the variants of the model there.

    ``failed`` is the reason why the curve ends there.
    """

    step: int
    metrics: dict[str, float]
    seconds: float
    failed: str | None = None
    variants: dict[str, RecordedVariant] = field(default_factory=dict)


Curve = list[CurvePoint]
"""Scores by ascending step, those of step 0 left out; at least one."""


Recorded = dict[tuple[str, int], tuple[dict[str, Any], Curve]]
"""Configuration as text and number of the repetition -> configuration and curve."""


class Table:
    """Curves by configuration.

    Args:
        config: FILE with ``search``: the space in which configurations are near or far.
        curves: Configuration and its curve, each.
        base: Metric -> value of the untouched model; empty when it is not known.
        digest: What tells this table from others.

    Attributes:
        base: The same.
        digest: The same.
        trainings: Configuration and curve of each training.
    """

    def __init__(
        self,
        config: Config,
        curves: Iterable[tuple[Mapping[str, Any], Curve]],
        base: Mapping[str, float],
        digest: str = "",
    ) -> None:
        assert config.search is not None
        self.base, self.digest = dict(base), digest
        self._space, self._seed = config.search.space, config.search.seed
        self._defaults = settings(config)
        self.trainings = pairs = list(curves)
        self._curves = [curve for _, curve in pairs]
        # Whatever the curves differ in counts, searched or not: a fixed seed is asked for by name.
        self._keys = sorted({*self._space, *(key for params, _ in pairs for key in params)})
        self._columns = {key: [self._value(p, key) for p, _ in pairs] for key in self._keys}

    def curve(self, trial: str, params: Mapping[str, Any]) -> Curve:
        """Return the curve of the recorded configuration that is nearest to ``params``.

        Settings on an interval are apart by the share of it between them (of its logarithm where
        it is searched so); others by 0 if they are equal, else by 1. The distance is the sum of the
        squares. Of equally near ones, the trial's id decides by lot.
        """
        distance = np.zeros(len(self._curves))
        for key, column in self._columns.items():
            distance += self._apart(key, self._value(params, key), column) ** 2
        nearest = np.flatnonzero(distance <= distance.min() + 1e-12)
        lot = hashlib.blake2b(f"{self._seed} {trial}".encode(), digest_size=8).digest()
        return self._curves[nearest[int.from_bytes(lot, "big") % len(nearest)]]

    def worst(self, objectives: Mapping[str, str]) -> dict[str, float]:
        """Return the worst value of each objective in the table, for the reference point."""
        found = {}
        for name, direction in objectives.items():
            values = [score.metrics.get(name, math.nan) for c in self._curves for score in c]
            finite = [value for value in values if math.isfinite(value)]
            if finite:
                found[name] = min(finite) if direction == "max" else max(finite)
        return found

    def ends(self) -> list[dict[str, float]]:
        """Return the metrics at the end of each curve that did not fail."""
        return [curve[-1].metrics for curve in self._curves if curve[-1].failed is None]

    def _value(self, params: Mapping[str, Any], key: str) -> Any:
        value = params.get(key, self._defaults.get(key))
        return json.dumps(value) if isinstance(value, list | dict) else value

    def _apart(self, key: str, value: Any, column: list[Any]) -> np.ndarray[Any, Any]:
        entry = self._space.get(key)
        if isinstance(entry, Interval) and _is_number(value):
            own = _place(entry, value)
            places = (_place(entry, each) if _is_number(each) else own + 1 for each in column)
            return np.array([place - own for place in places])
        return np.array([0.0 if each == value else 1.0 for each in column])


def _place(entry: Interval, value: float) -> float:
    """Return where ``value`` lies on an interval, its ends at 0 and 1; it may lie outside."""
    if not entry.log:
        return (value - entry.low) / (entry.high - entry.low)
    return math.log(max(value, 1e-300) / entry.low) / math.log(entry.high / entry.low)


def read_table(path: Path, config: Config) -> Table:
    """Read a table.

    Raises:
        ConfigError: It cannot be read, is empty, or lacks an objective.
    """
    try:
        rows = _parquet(path) if path.suffix == ".parquet" else _lines(path)
    except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(Problem(str(path), f"the table cannot be read: {reason}")) from error
    base: dict[str, float] = {}
    curves: Recorded = {}
    for number, row in enumerate(rows, start=1):
        params, score = _checked(row, f"{path}:{number}")
        if score.step == 0:
            base = score.metrics
            continue
        if (variant := row.get("variant")) is not None:
            _put_variant(curves, params, score, variant, f"{path}:{number}")
        else:
            _put(curves, params, score)
    _refuse_useless(path, config, [curve for _, curve in curves.values()])
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return Table(config, curves.values(), base, digest)


def _put(curves: Recorded, params: dict[str, Any], score: CurvePoint) -> None:
    """Add a score to the first curve of its configuration that has none at this step."""
    key, repetition = json.dumps(params, sort_keys=True), 0
    while True:
        _, curve = curves.setdefault((key, repetition), (params, []))
        if not any(score.step == other.step for other in curve):
            break
        repetition += 1
    curve.append(score)
    curve.sort(key=lambda each: each.step)


def _put_variant(
    curves: Recorded, params: dict[str, Any], score: CurvePoint, variant: str, place: str
) -> None:
    """Add a variant to the first curve of its configuration that has a model at its step, not it.

    Its rows follow one another: the time of one is that since the row before.
    """
    key, repetition = json.dumps(params, sort_keys=True), 0
    while (found := curves.get((key, repetition))) is not None:
        for model in found[1]:
            if model.step == score.step and variant not in model.variants:
                before = model.seconds + sum(each.seconds for each in model.variants.values())
                seconds = max(0.0, score.seconds - before)
                model.variants[variant] = RecordedVariant(score.metrics, seconds)
                return
        repetition += 1
    raise ConfigError(Problem(place, "a variant follows the row of its model at the same step"))


def _checked(row: Mapping[str, Any], place: str) -> tuple[dict[str, Any], CurvePoint]:
    try:
        params, metrics = _mapping(row["params"]), _mapping(row.get("metrics") or {})
        score = CurvePoint(
            step=int(row["step"]),
            metrics={name: float(value) for name, value in metrics.items() if value is not None},
            seconds=float(row["seconds"]) if row["step"] else 0.0,
            failed=row.get("failed"),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        problem = f"a row needs params, step, metrics and seconds ({type(error).__name__}: {error})"
        raise ConfigError(Problem(place, problem, dict(row))) from error
    return params, score


def _refuse_useless(path: Path, config: Config, curves: list[Curve]) -> None:
    assert config.search is not None
    if not curves:
        raise ConfigError(Problem(str(path), "the table has no rows after step 0"))
    known = {
        name
        for curve in curves
        for score in curve
        for name, value in score.metrics.items()
        if math.isfinite(value)
    }
    lacking = [name for name in config.search.objectives if name not in known]
    if lacking:
        problem = (
            f"the table has no values of {', '.join(lacking)}; it has {', '.join(sorted(known))}"
        )
        raise ConfigError(Problem(str(path), problem))


def _lines(path: Path) -> list[dict[str, Any]]:
    content = path.read_bytes()
    text = (gzip.decompress(content) if path.suffix == ".gz" else content).decode("utf-8")
    rows = []
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip():
            try:
                rows.append(dict(json.loads(line)))
            except (json.JSONDecodeError, TypeError, ValueError) as error:
                problem = f"the line is not a JSON object: {error}"
                raise ConfigError(Problem(f"{path}:{number}", problem)) from error
    return rows


def _parquet(path: Path) -> list[dict[str, Any]]:
    import pyarrow
    import pyarrow.parquet

    try:
        return list(pyarrow.parquet.read_table(path).to_pylist())
    except pyarrow.ArrowInvalid as error:
        raise ConfigError(
            Problem(str(path), f"the file is not in the Parquet format: {error}")
        ) from error


def _mapping(value: Any) -> dict[str, Any]:
    # A struct has every field in every row: what a row does not have is null.
    found = json.loads(value) if isinstance(value, str) else value
    return {key: each for key, each in found.items() if each is not None}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
