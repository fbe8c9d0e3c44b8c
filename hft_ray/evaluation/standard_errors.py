"""Standard errors of weighted means over items.

Notation: n items with values x_i [k] (one column for each model that answers them) and weights
w_i; R = sum_i w_i x_i / sum_i w_i. The covariance of R is that of a ratio of sums (Cochran,
Sampling Techniques, 1977, eq. 6.13 without the finite population correction):

    V = n / (n - 1) * sum_i w_i^2 (x_i - R) (x_i - R)^T / (sum_i w_i)^2

Shares. When all items agree, V is 0, which no sample can prove. What lies in [0, 1] therefore has
the covariance of a posterior: m prior items p_j, of half a weight each, join the data (a Dirichlet
process, Ferguson, Ann. Stat. 1, 1973; of right or wrong answers it is Jeffreys's). With
a = m / 2 prior items in all, w the mean weight and R' the mean over data and prior,

    V = (n + a) / (n + a + 1) * [sum_i w_i^2 (x_i - R') (x_i - R')^T
        + w^2 / 2 sum_j (p_j - R') (p_j - R')^T] / (sum_i w_i + a w)^2

    one model    p = 0, 1: Beta(k + 1/2, n - k + 1/2) of k right ones (Brown, Cai and DasGupta,
                 Stat. Sci. 16, 2001)
    two models   p = (0, 0), (0, 1), (1, 0), (1, 1): half an item in each cell of the table of pairs
                 (Agresti and Min, Stat. Med. 24, 2005)

Clusters. Items of one group are drawn together: each group is one item with its weighted mean as
value and its total weight as weight, and n is the number of groups. V is then the linearised,
cluster-robust covariance with the correction G / (G - 1).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

SINGLE = ((0.0,), (1.0,))
"""Prior items of a share of one model, [2, 1]."""
PAIRED = ((0.0, 0.0), (0.0, 1.0), (1.0, 0.0), (1.0, 1.0))
"""Prior items of the shares of two models on the same items, [4, 2]."""


def covariance(items: ArrayLike, weights: ArrayLike | None = None, prior: ArrayLike = ()) -> Array:
    """Return the covariance of the weighted means of the columns, [k, k] (see the module).

    Args:
        items: Values, [n, k].
        weights: Weight of each item, [n]; ``None`` where all weigh the same.
        prior: Values of the prior items, [m, k]; without any, fewer than two items give NaN.
    """
    x = np.asarray(items, dtype=np.float64)
    n, columns = x.shape
    w = np.ones(n) if weights is None else np.asarray(weights, dtype=np.float64)
    p = np.asarray(prior, dtype=np.float64).reshape(-1, columns)
    added = len(p) / 2
    if n < 2 and not added:
        return np.full((columns, columns), math.nan)
    count, freedom = (n + added, n + added + 1) if added else (n, n - 1)
    # A diverged model gives infinite or NaN items; these pass through without numpy's warnings.
    with np.errstate(invalid="ignore", over="ignore"):
        typical = w.mean()
        total = w.sum() + typical * added
        mean = (w @ x + typical / 2 * p.sum(axis=0)) / total
        data, own = w[:, None] * (x - mean), typical * (p - mean)
        squares = data.T @ data + own.T @ own / 2
        found: Array = count / freedom * squares / total**2
    return found


def clustered(
    items: ArrayLike, weights: Sequence[float] | None, groups: Sequence[int]
) -> tuple[Array, Array]:
    """Return one item for each group: their weighted means [G, k] and total weights [G]."""
    x = np.asarray(items, dtype=np.float64)
    w = np.ones(len(x)) if weights is None else np.asarray(weights, dtype=np.float64)
    _, place = np.unique(np.asarray(groups), return_inverse=True)
    totals: Array = np.bincount(place, weights=w).astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        sums = np.stack([np.bincount(place, weights=w * column) for column in x.T], axis=1)
        # A group without a predicted token weighs nothing.
        return sums / np.where(totals == 0, 1.0, totals)[:, None], totals
