"""What a point is worth, and the point that is worth most."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from botorch.acquisition import AcquisitionFunction
from botorch.generation import gen_candidates_scipy
from botorch.utils.multi_objective.box_decompositions.non_dominated import (
    FastNondominatedPartitioning,
)
from botorch.utils.safe_math import logdiffexp, logsumexp
from botorch.utils.transforms import t_batch_mode_transform
from torch import Tensor

from hft_ray.compat.botorch import log_expected_excess
from hft_ray.search.bayes.encoding import Encoding, key
from hft_ray.search.bayes.processes import Prediction
from hft_ray.search.bayes.scales import Array

FAR, LEAST = 1e10, 1e-3
UNLIKELY = 10
"""Power of twice a probability below one half."""
POOL, NEAR, STARTS, CHUNK, CLIMB = 512, 256, 4, 256, 60


class Feasible(AcquisitionFunction):
    """The logarithm of a gain times the probability that each constraint holds.

    A point that more probably violates a constraint than keeps it is next to worthless: what is
    left to gain elsewhere may be little, but a trial that runs out of memory gains nothing.

    Args:
        gain: The logarithm of the gain; None where nothing is known to hold them: then only the
            probability counts.
        constraints: A process each, of how far a constraint is violated (in whatever unit).
    """

    def __init__(self, gain: AcquisitionFunction | None, constraints: Sequence[Prediction]) -> None:
        super().__init__(model=constraints[0].model)
        self.gain = gain
        self.constraints = list(constraints)

    @t_batch_mode_transform(expected_q=1)
    def forward(self, X: Tensor) -> Tensor:
        """Return the logarithm, for ``X`` of shape ``(b, 1, d)``."""
        log = torch.zeros(len(X), dtype=X.dtype) if self.gain is None else self.gain(X)
        for each in self.constraints:
            mean, variance = each(X.squeeze(1))
            holds = torch.special.log_ndtr(-mean / variance.sqrt()).view(-1)
            log = log + holds + UNLIKELY * (holds + math.log(2)).clamp_max(0)
        return log


class Gain(AcquisitionFunction):
    """The logarithm of the expected gain of hypervolume; with one objective, of the best value.

    The space that nothing dominates is a union of boxes, and the gain of a point is the sum of what
    it covers of each: a product over the objectives, which are independent (Daulton et al.,
    "Differentiable Expected Hypervolume Improvement", 2020), in the logarithm (Ament et al.,
    "Unexpected Improvements to Expected Improvement", 2023).

    Args:
        prediction: Of the objectives, all to be large; what is under way counts as done.
        front: What the best points are believed to have, shape ``(n, m)``.
        reference: What is worth nothing, shape ``(m,)``.
        best: What cannot be surpassed, shape ``(m,)``: a share of right answers is at most 1,
            whatever a process says. Infinite, or None, where nothing is known.
    """

    def __init__(
        self, prediction: Prediction, front: Array, reference: Array, best: Array | None = None
    ) -> None:
        super().__init__(model=prediction.model)
        self._prediction = prediction
        # Noise may have taken a point beyond it; something is worth more than the best point.
        bound = np.inf if best is None else best
        most = torch.as_tensor(np.maximum(bound, front.max(axis=0) + LEAST)).clamp_max(FAR)
        if front.shape[1] == 1:
            self._low = torch.as_tensor(front.max()).view(1, 1)
            self._high = most.view(1, 1)
            return
        ends = torch.as_tensor(reference)
        boxes = FastNondominatedPartitioning(ends, torch.as_tensor(front)).get_hypercell_bounds()
        self._low, self._high = boxes[0], torch.minimum(boxes[1], most)

    @t_batch_mode_transform(expected_q=1)
    def forward(self, X: Tensor) -> Tensor:
        """Return the logarithm, for ``X`` of shape ``(b, 1, d)``."""
        mean, variance = (each.unsqueeze(1) for each in self._prediction(X.squeeze(1)))
        deviation = variance.sqrt()
        above = log_expected_excess((mean - self._low) / deviation)  # b x boxes x m
        beyond = log_expected_excess((mean - self._high) / deviation)
        return logsumexp((logdiffexp(beyond, above) + deviation.log()).sum(dim=-1), dim=-1)


class AlongCurve(AcquisitionFunction):
    """The logarithm of what the points are worth that one trial yields, as if each came alone.

    A trial yields a curve from the untouched model to the trained one. What its points gain
    together is at least the largest of their gains and at most the sum, which is what this is: the
    points of all curves overlap alike.

    Args:
        worth: Of a point and a position, which is the last feature.
        positions: The positions of the points, shape ``(p,)``.
    """

    def __init__(self, worth: AcquisitionFunction, positions: Array) -> None:
        super().__init__(model=worth.model)
        self._worth, self._positions = worth, torch.as_tensor(positions)

    @t_batch_mode_transform(expected_q=1)
    def forward(self, X: Tensor) -> Tensor:
        """Return the logarithm, for ``X`` of shape ``(b, 1, d)``."""
        count = len(self._positions)
        points = X.expand(-1, count, -1).reshape(-1, 1, X.shape[-1])
        places = self._positions.to(X).repeat(len(X)).view(-1, 1, 1)
        worths = self._worth(torch.cat([points, places], dim=-1))
        return logsumexp(worths.view(-1, count), dim=-1)


def best_point(
    worth: AcquisitionFunction,
    encoding: Encoding,
    known: set[bytes],
    good: Array,
    rng: np.random.Generator,
) -> Array | None:
    """Return the point that is worth most among those that are not known; None without any.

    Looks at points all over the space and near good ones, climbs from the best of them along the
    settings that may move without a step, and then tries each step of the others.

    Args:
        worth: The logarithm of what a point is worth.
        encoding: The space.
        known: Keys of the points that are known.
        good: Points whose neighbourhood is looked at, shape ``(n, settings)``.
        rng: Random numbers.
    """
    pool = _new(_pool(encoding, good, rng), known)
    if not len(pool):
        return None
    values = _values(worth, encoding.features(pool))
    starts = pool[_apart(encoding.features(pool), values)]
    found = [pool[np.argsort(-values)[:STARTS]], _climbed(worth, encoding, starts)]
    if encoding.size < np.inf or not all(each.relaxed for each in encoding.scales):
        around = [each for point in found[-1] for each in encoding.neighbours(point)]
        if around:
            near = np.array(around)
            near = encoding.settle(near, rng.random(near.shape))
            worths = _values(worth, encoding.features(near))
            found.append(_climbed(worth, encoding, near[np.argsort(-worths)[:STARTS]]))
    last = _new(np.concatenate(found), known)
    best: Array = last[np.argmax(_values(worth, encoding.features(last)))]
    return best


def _pool(encoding: Encoding, good: Array, rng: np.random.Generator) -> Array:
    if encoding.size <= 2 * POOL:
        return encoding.every()
    columns = len(encoding.settings)
    sobol = torch.quasirandom.SobolEngine(columns, scramble=True, seed=int(rng.integers(2**31)))
    everywhere = encoding.draw(sobol.draw(POOL, dtype=torch.double).numpy())
    near = good[rng.integers(len(good), size=NEAR)]
    # Small steps of all numbers, and another value for some of the settings.
    sizes = 10 ** rng.uniform(-2.5, -0.5, size=(NEAR, 1))
    numbers = np.array([each.relaxed or each.levels == 1 for each in encoding.scales])
    stepped = near + np.where(numbers, rng.normal(size=near.shape) * sizes, 0.0)
    anew = rng.random(near.shape) < np.where(numbers, 0.05, 1 / max(2, columns))
    stepped[anew] = np.nan
    moved = encoding.settle(
        np.where(numbers, np.clip(stepped, 0, 1), stepped), rng.random(near.shape)
    )
    return np.concatenate([everywhere, moved])


def _new(points: Array, known: set[bytes]) -> Array:
    """Return each point once that is not known."""
    found = {key(each): each for each in points}
    fresh = [each for name, each in found.items() if name not in known]
    return np.array(fresh).reshape(-1, points.shape[1])


def _values(worth: AcquisitionFunction, features: Array) -> Array:
    with torch.no_grad():
        parts = torch.as_tensor(features).unsqueeze(1).split(CHUNK)
        values = torch.cat([worth(part) for part in parts]).numpy()
    return np.nan_to_num(values, nan=-1e300, neginf=-1e300)


def _apart(features: Array, values: Array) -> list[int]:
    """Return the best places that are not near one another."""
    chosen: list[int] = []
    for place in np.argsort(-values):
        distances = np.abs(features[chosen] - features[place]).max(axis=1, initial=0.0)
        if not chosen or distances.min() > 0.1:
            chosen.append(int(place))
        if len(chosen) == STARTS:
            break
    return chosen


def _climbed(worth: AcquisitionFunction, encoding: Encoding, starts: Array) -> Array:
    """Return where climbing from some points ends."""
    features, free = encoding.features(starts), encoding.relaxed(starts)
    for mask in np.unique(free, axis=0):
        if mask.any():
            rows = (free == mask).all(axis=1)
            some = torch.as_tensor(features[rows]).unsqueeze(1)
            fixed = {int(place): some[:, 0, place] for place in np.flatnonzero(~mask)}
            ends, _ = gen_candidates_scipy(
                some, worth, 0.0, 1.0, fixed_features=fixed, options={"maxiter": CLIMB}
            )
            features[rows] = ends.detach().squeeze(1).numpy()
    moved = encoding.moved(starts, features)
    return encoding.settle(moved, np.full(moved.shape, 0.5))
