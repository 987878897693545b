"""How far a row's features lie from those of any class."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["feature_scores"]

Floats = NDArray[np.float64]


def feature_scores(values: Floats, posterior: Floats) -> Floats:
    """Mahalanobis distance to the nearest class, over the median row's: 1 is usual.

    Classes have centres and one covariance of their own rows, weighted by the posterior; it is
    shrunk towards the variances as much as their sampling error asks for.

    Args:
        values: Numeric features, `(n, d)`, NaN where missing; these tell nothing.
        posterior: P(true class), `(n, classes)`.

    Returns:
        `(n,)`; NaN where no column is numeric.

    Source:
        Lee et al. 2018 (distance to the nearest class as a score of rows from elsewhere); Schäfer
        and Strimmer 2005 (shrinkage).
    """
    if values.shape[1] == 0:
        return np.full(len(values), np.nan)
    z = _standardised(values)
    weight = posterior.sum(axis=0)
    centres = posterior.T @ z / np.maximum(weight, 1e-9)[:, None]
    within = (posterior.T @ z**2 - weight[:, None] * centres**2).sum(axis=0) / len(z)
    z, centres = (part / np.sqrt(np.maximum(within, 1e-4)) for part in (z, centres))
    correlation = _correlation(z - posterior @ centres)
    whitening = np.linalg.inv(np.linalg.cholesky(correlation)).T
    z, centres = z @ whitening, centres @ whitening
    squared = (z**2).sum(axis=1)[:, None] - 2 * z @ centres.T + (centres**2).sum(axis=1)
    distance = np.sqrt(np.maximum(squared[:, weight > 1].min(axis=1), 0))
    scores: Floats = distance / max(np.median(distance), 1e-9)
    return scores


def _standardised(values: Floats) -> Floats:
    """Mean 0 and standard deviation 1, missing cells at 0."""
    mean, deviation = np.nanmean(values, axis=0), np.nanstd(values, axis=0)
    z: Floats = np.nan_to_num((values - mean) / np.maximum(deviation, 1e-300))
    return z


def _correlation(residual: Floats) -> Floats:
    """Of the residuals, shrunk towards none."""
    n, d = residual.shape
    scaled = residual / np.maximum(residual.std(axis=0), 1e-9)
    sample = scaled.T @ scaled / n
    # Sum over all pairs of the variance of their correlation, over the sum of its squares.
    error = ((scaled**2).T @ scaled**2 / n - sample**2)[~np.eye(d, dtype=bool)].sum() / n
    signal = (sample[~np.eye(d, dtype=bool)] ** 2).sum()
    shrinkage = 1.0 if signal == 0 else float(np.clip(error / signal, 1e-3, 1))
    correlation: Floats = (1 - shrinkage) * sample + shrinkage * np.eye(d)
    return correlation
