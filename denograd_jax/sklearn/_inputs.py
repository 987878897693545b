"""What scikit-learn hands over, checked as it wants it checked."""

from typing import Any

import numpy as np
from sklearn.utils import check_random_state
from sklearn.utils.validation import validate_data

__all__ = ["read_table", "seed_of"]


def read_table(estimator: Any, X: Any, *, reset: bool, min_features: int = 1) -> Any:
    """A data frame as it is, with its text and its types; anything else as an array of numbers.

    Sets or compares the estimator's `n_features_in_` and `feature_names_in_`.

    Args:
        estimator: Whose input it is.
        X: A frame of pandas or polars, or array-like of shape `(rows, columns)`.
        reset: Whether the estimator is being fitted.
        min_features: Fewest columns of an array.

    Raises:
        ValueError: As scikit-learn raises it: other columns than in `fit`, infinite or complex
            numbers, too few rows or columns, one axis or three.
        TypeError: Sparse matrices.
    """
    if hasattr(X, "columns"):
        return validate_data(estimator, X, reset=reset, skip_check_array=True)
    return validate_data(
        estimator,
        X,
        reset=reset,
        dtype="numeric",
        ensure_all_finite="allow-nan",
        ensure_min_samples=2 if reset else 1,
        ensure_min_features=min_features,
    )


def seed_of(random_state: Any) -> int:
    """The seed that a `random_state` stands for: itself if it is a number, else drawn from it."""
    if isinstance(random_state, int | np.integer):
        return int(random_state)
    return int(check_random_state(random_state).randint(2**31 - 1))
