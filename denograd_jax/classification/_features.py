"""Features as a classifier takes them: numbers standardised, text and categories one-hot."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import pandas as pd
from jax.scipy.special import ndtri
from numpy.typing import NDArray

from denograd_jax._frames._columns import (
    counts_rows,
    indicators,
    is_identifier,
    is_number,
    levels_of,
    to_floats,
)
from denograd_jax.errors import ColumnError, DataError, ShapeError, UnsupportedError

__all__ = ["as_frame", "encode", "numbers"]

Floats = NDArray[np.float32]


def as_frame(X: Any) -> pd.DataFrame:
    """The features as a data frame, of whose columns nothing is assumed yet.

    Raises:
        UnsupportedError: Features that are neither a data frame nor an array of numbers.
        ShapeError: An array that is not `(n, d)`, or one without rows or columns.
    """
    if not isinstance(X, pd.DataFrame):
        array = np.asarray(X)
        if array.dtype.kind not in "buif":
            raise UnsupportedError(
                f"X must be a pandas DataFrame or an array of numbers, not {type(X).__name__} of "
                f"{array.dtype}: put text and categories into a DataFrame."
            )
        if array.ndim != 2:
            raise ShapeError(f"X must have shape (rows, features), not {array.shape}.")
    frame = X if isinstance(X, pd.DataFrame) else pd.DataFrame(array)
    if 0 in frame.shape:
        raise ShapeError(f"X has shape {frame.shape}: there must be rows and columns.")
    return frame


def numbers(X: pd.DataFrame) -> NDArray[np.float64]:
    """The numeric columns that vary, `(n, k)`, NaN where missing.

    Left out are columns that number the rows or are called identifiers.

    Raises:
        DataError: Infinite values.
    """
    chosen = [
        to_floats(column)
        for _, column in X.items()
        if is_number(column) and not counts_rows(column) and not is_identifier(column)
    ]
    values = np.stack(chosen, axis=1) if chosen else np.zeros((len(X), 0))
    if np.isinf(values).any():
        raise DataError(
            "X has infinite values: replace them, or set them to NaN to have them treated as "
            "missing."
        )
    varies = [len(np.unique(column[~np.isnan(column)])) > 1 for column in values.T]
    return values[:, np.array(varies, bool)]


def encode(X: pd.DataFrame) -> Floats:
    """What the library's own classifiers see of the features, `(n, inputs)`, nothing missing.

    A number is replaced by its normal score, the quantile of a standard normal distribution at its
    rank: tables have tails that a perceptron does not bear otherwise. A missing number is 0, the
    median, and has an indicator of its own. Text, categories and booleans are one-hot.

    Raises:
        ColumnError: No column tells a classifier anything.
        DataError: Infinite values.
    """
    values = numbers(X)
    missing = np.isnan(values)
    blocks = [_normal_scores(values), missing[:, missing.any(axis=0)]]
    others = (column for _, column in X.items() if not is_number(column))
    levels = ((column, levels_of(column)) for column in others)
    blocks += [indicators(column, found) for column, found in levels if found is not None]
    encoded = np.concatenate(blocks, axis=1, dtype=np.float32)
    if encoded.shape[1] == 0:
        raise ColumnError(
            "no column of X tells a classifier anything: all are constant, dates or identifiers."
        )
    return encoded


def _normal_scores(values: NDArray[np.float64]) -> Floats:
    """Standardised normal scores of each column's observed values, equal ones alike; else 0."""
    scores = np.zeros(values.shape, np.float32)
    for j, column in enumerate(values.T):
        observed = ~np.isnan(column)
        ranks = pd.Series(column[observed]).rank().to_numpy() - 0.5
        found = np.asarray(ndtri(jnp.asarray(ranks / observed.sum(), jnp.float32)))
        scores[observed, j] = (found - found.mean()) / max(found.std(), 1e-6)
    return scores
