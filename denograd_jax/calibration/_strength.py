"""How far off data are after a correction of some strength, without clean data to compare to."""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import lsq_linear

__all__ = ["error_after", "excess_of", "expected_gain", "weights_of_parts"]

SINGULAR = 1e-6
"""Added to the correlation of parts: two may be the same."""


def error_after(
    noise: ArrayLike, taken: ArrayLike, precision: ArrayLike, squared_score: ArrayLike
) -> NDArray[np.float64]:
    r"""Mean square error of `z + t * score`, by Stein's unbiased estimate.

    .. math:: v - 2 t v h + t^2 s^2

    With the right density, where `h = s^2` on average, it is least at `t = v`: the posterior mean.

    Args:
        noise: Variance v of the noise.
        taken: Variance t that is taken for it.
        precision: h, minus the derivative of the score by its own cell.
        squared_score: The score's square; of means over many cells, its mean.

    Returns:
        In units of v, at least 0.

    Source:
        Stein, "Estimation of the mean of a multivariate normal distribution", 1981.
    """
    v, t, h, s2 = (np.asarray(a, np.float64) for a in (noise, taken, precision, squared_score))
    return np.maximum(v - 2 * t * v * h + t**2 * s2, 0)


def expected_gain(
    noise: ArrayLike, taken: ArrayLike, precision: ArrayLike, squared_score: ArrayLike
) -> float:
    """Share of the error of noisy columns `(d,)` that should come off; arguments: `error_after`."""
    v = np.asarray(noise, np.float64)
    left = error_after(v, taken, precision, squared_score).sum()
    return float(max(1 - np.sqrt(left / v.sum()), 0)) if v.sum() > 0 else 0.0


def excess_of(squares: ArrayLike, slopes: ArrayLike) -> NDArray[np.float64]:
    """By how much a score is larger than its slope says, as a part of that, from 0 to 1.

    Args:
        squares: Mean square of the score; of a part of it, the mean product with the whole.
        slopes: Minus the mean derivative of the same by its own cell.
    """
    slope = np.maximum(np.asarray(slopes, np.float64), 1e-12)
    return np.clip(np.asarray(squares, np.float64) / slope - 1, 0, 1)


def weights_of_parts(slopes: ArrayLike, products: ArrayLike) -> NDArray[np.float64]:
    r"""What each part of a score should count, from 0 to 1, by Stein's unbiased estimate.

    A score is a sum of parts :math:`s_k`; of all :math:`z + v \sum_k w_k s_k` the mean square
    error is least where

    .. math:: v - 2 v^2 w^T h + v^2 w^T G w

    is, whatever the noise v is. With the right density all weights are 1. No part of a score counts
    more, so that never more is taken off than the density says.

    Args:
        slopes: h, minus the mean derivative of each part by its own cell, `(K,)`.
        products: G, the mean products of the parts with each other, `(K, K)`.

    Returns:
        w, `(K,)`; of parts that are 0 everywhere it is 0.

    Source:
        Stein, "Estimation of the mean of a multivariate normal distribution", 1981; linear
        combinations: Blu and Luisier, "The SURE-LET approach to image denoising", 2007.

    Example:
        The second part is the first again, but for an error of its own:

        >>> print(weights_of_parts([1.0, 0.5], [[1.0, 0.5], [0.5, 5.0]]).round(2))
        [1. 0.]
    """
    h, g = np.asarray(slopes, np.float64), np.asarray(products, np.float64)
    size = np.sqrt(np.diag(g))
    told = size > 0
    if not told.any():
        return np.zeros(len(h))
    unit = size[told]
    correlation = g[np.ix_(told, told)] / np.outer(unit, unit) + SINGULAR * np.eye(len(unit))
    factor = np.linalg.cholesky(correlation)
    found = np.zeros(len(h))
    target = np.linalg.solve(factor, h[told] / unit)
    found[told] = lsq_linear(factor.T, target, (0, unit)).x / unit
    return found
