"""The noise of a series read off its variogram: what is left of it at no distance in time."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from denograd_jax.errors import ShapeError

__all__ = ["Nugget", "nugget", "nugget_bounds"]

LAGS = 8
FEWEST_PAIRS = 30
RANGES = np.geomspace(1.0, 4000, 38)
EXPONENTS = np.linspace(0.3, 2.0, 18)
"""Below, a clean series would rise so steeply from lag 0 that it cannot be told from noise."""
BLOCKS = 32
SHRINKAGE = 0.1
"""Of the covariances of so few blocks."""
LIKELY, FIRM = 2.71, 6.0
"""Doubt of the bounds: chi-squared of one degree of freedom, one-sided 95 % and 99.3 %."""


class Nugget(NamedTuple):
    """Variance of white noise on each channel, `(C,)` each, in squared units of the series.

    Attributes:
        best: Of the curve that fits best.
        least: The least of curves that fit nearly as well: with 95 % it is no less.
        firm: The same with more than 99 %.
    """

    best: NDArray[np.float64]
    least: NDArray[np.float64]
    firm: NDArray[np.float64]


def nugget(series: ArrayLike, segments: ArrayLike | None = None) -> NDArray[np.float64]:
    r"""The variance of white noise on each channel of a series, from the shape of its variogram.

    The variogram, half the mean square of :math:`z_{t+h} - z_t`, of noise alone is level; that of a
    process that is continuous in time rises from 0. Their sum is fitted at lags of 1 to 8 steps by

    .. math:: \gamma(h) = n + s \, (1 - \exp(-(h / l)^a)), \quad n, s \geq 0, \quad
       0.3 \leq a \leq 2

    which holds the Ornstein-Uhlenbeck process exactly (a = 1) and power laws closely, by
    generalised least squares: the covariance of the eight semivariances is that of a jackknife of
    32 stretches of time. Of all such curves that fit within sampling error, the one with the least
    nugget is taken: where a process forgets much of itself within a step, as one of gusts does, the
    answer is less than the truth, down to 0, since nothing would tell the two apart.

    Look-ahead: yes, one number for the whole series.

    Args:
        series: `(T, C)` or `(T,)`, in any unit; NaN is missing.
        segments: `(T,)`; pairs of steps are taken within equal ones, of consecutive rows.

    Returns:
        The variance n, `(C,)`, in squared units of the series; 0 where fewer than 30 pairs are
        observed at some lag.

    Raises:
        ShapeError: It is no series.

    Source:
        The nugget effect: Matheron 1963; powered exponential variogram: Diggle and Ribeiro 2007;
        generalised least squares for variograms: Cressie 1985; leaving out blocks: Kuensch 1989.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> wave = np.sin(np.arange(5000) / 30)
        >>> print(nugget(wave + 0.5 * rng.normal(size=5000)).round(2))
        [0.19]
    """
    return nugget_bounds(series, segments).least


def nugget_bounds(series: ArrayLike, segments: ArrayLike | None = None) -> Nugget:
    """The same with what fits best, and with less doubt; see `nugget`."""
    z = np.asarray(series, np.float64)
    z = z[:, None] if z.ndim == 1 else z
    if z.ndim != 2:
        raise ShapeError(f"a series has shape (T, C) or (T,), not {z.shape}.")
    labels = np.zeros(len(z), int) if segments is None else np.asarray(segments)
    squares, pairs = _half_squares(z, labels)
    found = np.zeros((3, z.shape[1]))
    seen = (pairs.sum(axis=0) >= FEWEST_PAIRS).all(axis=0) & (squares.sum(axis=0) > 0).all(axis=0)
    for channel in np.flatnonzero(seen):
        found[:, channel] = _intercepts(*_semivariances(squares[..., channel], pairs[..., channel]))
    return Nugget(*found)


def _half_squares(
    z: NDArray[np.float64], segments: NDArray[np.generic]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Half the squares of differences, and how many they are, per block, `(BLOCKS, LAGS, C)`."""
    squares, pairs = np.zeros((2, BLOCKS, LAGS, z.shape[1]))
    block = np.arange(len(z)) * BLOCKS // max(len(z), 1)
    for lag in range(1, min(LAGS, len(z) - 1) + 1):
        difference = z[lag:] - z[:-lag]
        usable = (segments[lag:] == segments[:-lag])[:, None] & ~np.isnan(difference)
        np.add.at(pairs[:, lag - 1], block[lag:], usable)
        np.add.at(squares[:, lag - 1], block[lag:], np.where(usable, difference, 0) ** 2 / 2)
    return squares, pairs


def _semivariances(
    squares: NDArray[np.float64], pairs: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Semivariances at lags 1 to LAGS, and what whitens their relative errors, `(LAGS, LAGS)`."""
    gamma = squares.sum(axis=0) / pairs.sum(axis=0)
    left = np.maximum(pairs.sum(axis=0) - pairs, 1)
    without = (squares.sum(axis=0) - squares) / left / gamma
    apart = without - without.mean(axis=0)
    covariance = (BLOCKS - 1) / BLOCKS * apart.T @ apart
    diagonal = np.diag(np.diag(covariance) + 1e-10)  # of a curve without any chance in it
    covariance = (1 - SHRINKAGE) * covariance + SHRINKAGE * diagonal
    return gamma, np.linalg.inv(np.linalg.cholesky(covariance))


def _intercepts(
    gamma: NDArray[np.float64], whitened: NDArray[np.float64]
) -> tuple[float, float, float]:
    """The best n, and the least within either doubt, over a grid of l and a; n and s are fitted.

    Where no curve fits within sampling error, that is taken to be larger.
    """
    lags = np.arange(1, LAGS + 1)
    rise = 1 - np.exp(-((lags / RANGES[:, None, None]) ** EXPONENTS[:, None]))  # (l, a, lag)
    one, b, c = whitened @ (1 / gamma), rise / gamma @ whitened.T, whitened.sum(axis=1)
    aa, ab, bb = (one * one).sum(), (one * b).sum(-1), (b * b).sum(-1)
    ac, bc = (one * c).sum(), (b * c).sum(-1)
    curvature = np.maximum(aa - ab * ab / bb, 1e-300)  # of the misfit by n, s fitted to it
    n = np.clip((ac - ab * bc / bb) / curvature, 0, None)
    s = (bc - ab * n) / bb
    n, s = np.where(s < 0, ac / aa, n), np.clip(s, 0, None)  # level: nothing but noise
    misfit = ((n[..., None] * one + s[..., None] * b - c) ** 2).sum(-1)
    unit = max(1.0, misfit.min() / (LAGS - 4))
    best = n.ravel()[misfit.argmin()]
    least = []
    for doubt in (LIKELY, FIRM):
        room = misfit.min() + doubt * unit - misfit
        lower = n - np.sqrt(np.clip(room, 0, None) / curvature)
        least.append(max(lower[room >= 0].min(), 0.0))
    likely, firm = (float(min(value, best, gamma.min())) for value in least)
    return float(min(best, gamma.min())), likely, firm
