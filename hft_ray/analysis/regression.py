"""Gaussian process regression of a metric on the searched settings, by scikit-learn.

Symbols: n configurations, d settings, m configurations to average over.

    X  (n, d)  encoded settings: 0 to 1 of an interval, or the index of a choice
    y  (n,)    the metric
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel
from sklearn.metrics import r2_score
from sklearn.model_selection import cross_val_predict

from hft_ray.analysis.settings import Array, Setting

_FOLDS = 10


class Regression:
    """A fitted process with a squared exponential kernel, a length scale for each setting, noise.

    Args:
        settings: The settings.
        X: Their encoded values (n, d), n >= 2, all finite.
        y: The metric (n,), all finite.

    Attributes:
        explained: Coefficient of determination of predictions for configurations left out (10-fold
            cross-validation); negative when their mean predicts better.
    """

    def __init__(self, settings: Sequence[Setting], X: Array, y: Array) -> None:
        self._settings = settings
        features = self._features(X)
        scales = RBF(np.ones(features.shape[1]), length_scale_bounds=(0.1, 30))
        kernel = ConstantKernel(1.0, (1e-2, 1e3)) * scales + WhiteKernel(0.1, (1e-4, 10))
        with warnings.catch_warnings():
            # A setting without effect takes its length scale to the bound.
            warnings.simplefilter("ignore", ConvergenceWarning)
            self._model = GaussianProcessRegressor(kernel, normalize_y=True).fit(features, y)
        fitted = GaussianProcessRegressor(self._model.kernel_, optimizer=None, normalize_y=True)
        predicted = cross_val_predict(fitted, features, y, cv=min(_FOLDS, len(y)))
        self.explained = float(r2_score(y, predicted))

    def predict(self, X: Array) -> Array:
        """Return the expected metric (k,) at encoded settings (k, d)."""
        return np.asarray(self._model.predict(self._features(X)))

    def partial_dependence(self, index: int, places: Array, space: Array) -> tuple[Array, Array]:
        """Return the mean of the predictions over a sample, one setting held at each place.

        Args:
            index: Index of the setting.
            places: Its encoded values (g,).
            space: Encoded configurations (m, d) to average over.

        Returns:
            Mean and standard deviation, (g,) each.
        """
        means, deviations = np.empty(len(places)), np.empty(len(places))
        for row, place in enumerate(places):
            held = space.copy()
            held[:, index] = place
            mean, covariance = self._model.predict(self._features(held), return_cov=True)
            means[row] = mean.mean()
            deviations[row] = math.sqrt(max(0.0, covariance.mean()))
        return means, deviations

    def _features(self, X: Array) -> Array:
        """Return X with indicators in place of choices, which have no order."""
        columns = [
            np.equal.outer(column, range(len(setting.choices))) / math.sqrt(2)
            if setting.categorical
            else column[:, None]
            for setting, column in zip(self._settings, X.T, strict=True)
        ]
        return np.concatenate(columns, axis=1)
