"""Gaussian processes of what trials gave.

One process for each objective and each constraint, with an RBF kernel whose lengthscales have
priors that grow with the number of settings (Hvarfner et al., "Vanilla Bayesian Optimization
Performs Great in High Dimensions", 2024), as BoTorch has it by default; those of objectives with a
scale of their own.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import gpytorch
import numpy as np
import torch
from botorch.exceptions import ModelFittingError
from botorch.fit import fit_gpytorch_mll
from botorch.models import SingleTaskGP
from botorch.models.utils.gpytorch_modules import (
    MIN_INFERRED_NOISE_LEVEL,
    get_covar_module_with_dim_scaled_prior,
)
from gpytorch.kernels import ScaleKernel
from gpytorch.mlls import ExactMarginalLogLikelihood
from gpytorch.priors import GammaPrior
from linear_operator.utils.cholesky import psd_safe_cholesky
from torch import Tensor

from hft_ray.search.bayes.scales import Array

FEW = 100
"""Up to so many points, learning begins from several starts each time."""
FITTED = 200
"""Most points from which lengthscales and noise are learned; all count for predictions."""


@dataclass
class Fit:
    """What was learned of lengthscales and noise.

    Attributes:
        parameters: Name -> tensor.
        points: From how many points.
        searched: How many points there were when it was last learned from several starts.
    """

    parameters: Mapping[str, Tensor]
    points: int
    searched: int

    def lasts(self, y: Array) -> bool:
        """Whether it is good enough for these values: a tenth may have come since."""
        return self.fits(y) and self.points <= len(y) <= max(self.points + 1, 1.1 * self.points)

    def near(self, y: Array) -> bool:
        """Whether what is most probable now is near: half as many may have come since.

        What few points say of lengthscales and noise changes with each further one.
        """
        return self.fits(y) and FEW < self.searched <= len(y) <= 1.5 * self.searched

    def fits(self, y: Array) -> bool:
        """Whether it is of so many outputs."""
        return self.parameters["mean_module.raw_constant"].numel() == y.shape[1]


Start = Fit | Literal["prior", "quiet"]
"""Where learning begins: what was learned before, what is probable beforehand, or no noise."""


def process(x: Array, y: Array, bounded: bool = False) -> SingleTaskGP:
    """Return Gaussian processes, one for each column of ``y``, not fitted yet.

    Noise is learned, one level for each output. A score's standard error would not do in its place:
    it holds what the chosen items do to all trials alike, and not what another seed would change.

    Args:
        x: Points as a model sees them, shape ``(n, d)``.
        y: What they gave, standardised, shape ``(n, m)``.
        bounded: Whether what lies elsewhere is as large as ``y`` and no larger.
    """
    outputs = y.shape[1]
    batch = torch.Size([outputs] if outputs > 1 else [])
    kernel = get_covar_module_with_dim_scaled_prior(x.shape[1], batch)
    if not bounded:
        # How far a function may go beyond what it gave so far is learned as well: its ends often
        # lie where no point is yet.
        prior = GammaPrior(2.0, 0.15)
        kernel = ScaleKernel(kernel, batch_shape=batch, outputscale_prior=prior)
    return SingleTaskGP(
        torch.as_tensor(x), torch.as_tensor(y), covar_module=kernel, outcome_transform=None
    )


def fitted(
    x: Array, y: Array, before: Fit | None, bounded: bool = False
) -> tuple[SingleTaskGP, Fit]:
    """Return processes that know all points, and what was learned of them.

    Args:
        x: See :func:`process`, here and below.
        y: What the points gave.
        before: What was learned last; it is where learning begins, or is taken as it is.
        bounded: See :func:`process`.
    """
    if before is None or not before.lasts(y):
        chosen = _chosen(len(x))
        starts: list[Start]
        if before is not None and before.near(y):
            starts, searched = [before], before.searched
        else:
            starts, searched = ["prior", "quiet"], len(x)
            if before is not None and before.fits(y):
                starts.insert(0, before)
        before = Fit(_learned(x[chosen], y[chosen], starts, bounded), len(x), searched)
    model = process(x, y, bounded)
    _take(model, before)
    return model.eval(), before


class Prediction:
    """What processes say of points, each by itself.

    GPyTorch's own posterior copies the factor of the training points for each point of a batch,
    which takes gigabytes for a thousand of both.

    Args:
        model: The processes.
    """

    def __init__(self, model: SingleTaskGP) -> None:
        self.model = model
        with torch.no_grad():
            self._x = model.train_inputs[0]
            covariance = model.covar_module(self._x).to_dense()
            noise = model.likelihood.noise.expand(covariance.shape[:-1])
            factor = psd_safe_cholesky(covariance + torch.diag_embed(noise))
            unit = torch.eye(factor.shape[-1], dtype=factor.dtype).expand_as(factor)
            self._inverse = torch.linalg.solve_triangular(factor, unit, upper=False)
            self._mean = model.mean_module.constant.unsqueeze(-1)
            off = (model.train_targets - self._mean).unsqueeze(-1)
            self._weights = self._inverse.mT @ (self._inverse @ off)

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return means and variances, shape ``(n, m)``, at points of shape ``(n, d)``."""
        covariance = self.model.covar_module(x, self._x).to_dense()
        mean = self._mean + (covariance @ self._weights).squeeze(-1)
        prior = self.model.covar_module(x, diag=True)
        variance = prior - (covariance @ self._inverse.mT).square().sum(dim=-1)
        mean, variance = torch.broadcast_tensors(mean, variance.clamp_min(1e-12))
        if mean.dim() == 1:
            return mean[:, None], variance[:, None]
        return mean.mT, variance.mT


def _chosen(points: int) -> Any:
    """Return which points to learn from: the newest, and some of all others."""
    if points <= FITTED:
        return slice(None)
    newest = np.arange(points - FITTED // 2, points)
    others = np.linspace(0, points - FITTED // 2 - 1, FITTED // 2).round().astype(int)
    return np.concatenate([others, newest])


def _learned(x: Array, y: Array, starts: Sequence[Start], bounded: bool) -> dict[str, Tensor]:
    """Return what is most probable, from some starts, for each output by itself.

    From one start an output may end where what a setting changes passes for noise, and stay there.
    """
    best: dict[str, Tensor] = {}
    worth = torch.full((y.shape[1],), -torch.inf, dtype=torch.double)
    for start in starts:
        model = process(x, y, bounded)
        if start == "quiet":
            _quieten(model)
        elif start != "prior":
            _take(model, start)
        mll = ExactMarginalLogLikelihood(model.likelihood, model)
        with contextlib.suppress(ModelFittingError), gpytorch.settings.cholesky_max_tries(6):
            fit_gpytorch_mll(mll, optimizer_kwargs={"options": {"maxiter": 60}})
        model.train()
        with torch.no_grad():
            reached = mll(model(*model.train_inputs), model.train_targets).reshape(-1)
        better = torch.nan_to_num(reached, nan=-1e300) > worth
        worth = torch.where(better, reached, worth)
        for name, value in _parameters(model).items():
            rows = better.view(-1, *[1] * (value.dim() - 1)) if y.shape[1] > 1 else better[0]
            best[name] = torch.where(rows, value, best.get(name, value))
    return best


def _quieten(model: SingleTaskGP) -> None:
    """Begin with next to no noise."""
    model.likelihood.noise_covar.initialize(noise=2 * MIN_INFERRED_NOISE_LEVEL)


def _parameters(model: SingleTaskGP) -> dict[str, Tensor]:
    return {name: each.detach().clone() for name, each in model.named_parameters()}


def _take(model: SingleTaskGP, fit: Fit) -> None:
    own = dict(model.named_parameters())
    with torch.no_grad():
        for name, value in fit.parameters.items():
            if name in own and own[name].shape == value.shape:
                own[name].copy_(value)
