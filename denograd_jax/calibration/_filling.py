"""Missing cells of rows: what the others of their row let expect, by a covariance."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["covariance_of_rows", "expected_cells"]

Floats = NDArray[np.float64]

ROUNDS = 10
RIDGE = 1e-6


def covariance_of_rows(z: Floats) -> Floats:
    """Covariance `(d, d)` of rows with missing cells (NaN), around 0, as if they were Gaussian.

    Source:
        Expectation-maximisation for incomplete rows: Dempster, Laird and Rubin 1977.
    """
    missing = np.isnan(z)
    covariance = np.eye(z.shape[1])
    patterns, pattern_of = np.unique(missing, axis=0, return_inverse=True)
    counts = np.bincount(pattern_of.ravel(), minlength=len(patterns))
    for _ in range(ROUNDS if missing.any() else 1):
        filled = expected_cells(z, covariance)
        doubt = np.zeros_like(covariance)
        for gone, count in zip(patterns, counts, strict=True):
            doubt[np.ix_(gone, gone)] += count * _conditional(covariance, gone)
        covariance = (filled.T @ filled + doubt) / len(z) + RIDGE * np.eye(z.shape[1])
    return covariance


def expected_cells(z: Floats, covariance: Floats) -> Floats:
    """The rows `(n, d)` with their missing cells at their expectation, given the others."""
    filled = z.copy()
    missing = np.isnan(z)
    patterns, pattern_of = np.unique(missing, axis=0, return_inverse=True)
    for number in np.flatnonzero(patterns.any(axis=1)):
        rows, gone = np.flatnonzero(pattern_of.ravel() == number), patterns[number]
        slope = np.linalg.solve(covariance[np.ix_(~gone, ~gone)], covariance[np.ix_(~gone, gone)])
        filled[np.ix_(rows, gone)] = z[np.ix_(rows, ~gone)] @ slope
    return filled


def _conditional(covariance: Floats, gone: NDArray[np.bool_]) -> Floats:
    """Covariance of missing cells given the others."""
    across = covariance[np.ix_(~gone, gone)]
    slope = np.linalg.solve(covariance[np.ix_(~gone, ~gone)], across)
    found: Floats = covariance[np.ix_(gone, gone)] - across.T @ slope
    return found
