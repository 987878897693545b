"""The noise of a series read off its variogram: what is left of it at no distance in time."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from denograd_jax.errors import ShapeError

__all__ = ["nugget"]

LAGS = 8
FEWEST_PAIRS = 30
RANGES = np.geomspace(1.0, 4000, 38)
EXPONENTS = np.linspace(0.3, 2.0, 18)
"""Below, a clean series would rise so steeply from lag 0 that it cannot be told from noise."""


def nugget(series: ArrayLike, segments: ArrayLike | None = None) -> NDArray[np.float64]:
    r"""The variance of white noise on each channel of a series, from the shape of its variogram.

    The variogram, half the mean square of :math:`z_{t+h} - z_t`, of noise alone is level; that of a
    process that is continuous in time rises from 0. Their sum is fitted at lags of 1 to 8 steps by

    .. math:: \gamma(h) = n + s \, (1 - \exp(-(h / l)^a)), \quad n, s \geq 0, \quad
       0.3 \leq a \leq 2

    which holds the Ornstein-Uhlenbeck process exactly (a = 1) and power laws closely. Of all such
    curves that fit within sampling error, the one with the least nugget is taken: where a process
    forgets much of itself within a step, as one of gusts does, the answer is less than the truth,
    down to 0, since nothing would tell the two apart.

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
        The nugget effect: Matheron 1963; powered exponential variogram: Diggle and Ribeiro 2007.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> wave = np.sin(np.arange(5000) / 30)
        >>> print(nugget(wave + 0.5 * rng.normal(size=5000)).round(2))
        [0.22]
    """
    z = np.asarray(series, np.float64)
    z = z[:, None] if z.ndim == 1 else z
    if z.ndim != 2:
        raise ShapeError(f"a series has shape (T, C) or (T,), not {z.shape}.")
    labels = np.zeros(len(z), int) if segments is None else np.asarray(segments)
    gamma, pairs = _variogram(z, labels)
    found = np.zeros(z.shape[1])
    for channel in np.flatnonzero((pairs >= FEWEST_PAIRS).all(axis=0) & (gamma > 0).all(axis=0)):
        found[channel] = _intercept(gamma[:, channel], pairs[:, channel].min())
    return found


def _variogram(
    z: NDArray[np.float64], segments: NDArray[np.generic]
) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Semivariances at lags 1 to LAGS and how many pairs they come from, `(LAGS, C)` each."""
    gamma, pairs = np.zeros((LAGS, z.shape[1])), np.zeros((LAGS, z.shape[1]), np.intp)
    for lag in range(1, min(LAGS, len(z) - 1) + 1):
        difference = z[lag:] - z[:-lag]
        usable = (segments[lag:] == segments[:-lag])[:, None] & ~np.isnan(difference)
        pairs[lag - 1] = usable.sum(axis=0)
        squares = np.where(usable, difference, 0) ** 2
        gamma[lag - 1] = squares.sum(axis=0) / np.maximum(2 * pairs[lag - 1], 1)
    return gamma, pairs


def _intercept(gamma: NDArray[np.float64], pairs: int) -> float:
    """The least n of the good fits over a grid of l and a, for each of which n and s are fitted.

    Semivariances count by their own size, near ones more: their relative error is about equal, that
    of a mean of so many squares.
    """
    lags = np.arange(1, LAGS + 1)
    rise = 1 - np.exp(-((lags / RANGES[:, None, None]) ** EXPONENTS[:, None]))  # (l, a, lag)
    weight = 1 / (gamma * np.sqrt(lags))
    one, b, c = weight, rise * weight, gamma * weight
    aa, ab, bb = (one * one).sum(), (one * b).sum(-1), (b * b).sum(-1)
    ac, bc = (one * c).sum(), (b * c).sum(-1)
    determinant = aa * bb - ab * ab
    n = np.clip((bb * ac - ab * bc) / np.where(determinant > 0, determinant, np.inf), 0, None)
    s = (bc - ab * n) / bb
    n = np.where(s < 0, ac / aa, n)  # level: nothing but noise
    misfit = ((n[..., None] * one + np.clip(s, 0, None)[..., None] * b - c) ** 2).sum(-1)
    doubt = 2 / pairs * (1 / lags).sum()
    return float(min(n[misfit <= misfit.min() + doubt].min(), gamma.min()))
