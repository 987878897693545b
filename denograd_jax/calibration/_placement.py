"""Whether flagged rows are special: noise hits rows wherever they lie, true extremes do not."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["DEPENDENT", "dependence", "farther_out", "places", "unit"]

Floats = NDArray[np.float64]

DEPENDENT = 4.0
"""Correlation of what is flagged with where rows lie, in its standard errors, above which it is
part of the signal."""


def places(z: Floats) -> Floats:
    """Where rows lie in each column: rank, and distance from the middle; `(2, n, d)`.

    Ranks know no outliers.
    """
    ranks = z.argsort(axis=0, kind="stable").argsort(axis=0, kind="stable") + 0.5
    return np.stack([unit(ranks), unit(np.abs(ranks - len(z) / 2))])


def unit(values: NDArray[Any]) -> Floats:
    """With mean 0 and standard deviation 1 in each column, or 0 where all are equal."""
    apart = np.asarray(values, np.float64) - values.mean(axis=0)
    found: Floats = apart / np.maximum(apart.std(axis=0), 1e-12)
    return found


def dependence(flags: NDArray[np.bool_], others: Floats) -> float:
    """Largest correlation of flags `(n,)` with `unit` columns `(n, m)`, in standard errors."""
    return float(np.abs(unit(flags) @ others).max(initial=0) / np.sqrt(len(flags)))


def farther_out(flags: NDArray[np.bool_], z: Floats) -> float:
    """The same of flags with the distance from the middle, by rank, of rows `(n, d)`."""
    return float((unit(flags) @ places(z)[1]).max() / np.sqrt(len(flags)))
