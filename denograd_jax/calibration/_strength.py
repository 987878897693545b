"""How far off data are after a correction of some strength, without clean data to compare to."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["error_after", "expected_gain"]


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
