"""How far refined data lie from the noisy and from the clean data.

Every metric is a pure function of arrays of samples by columns; a one-dimensional array is one
column. The numbers are computed on the host in float64, whatever the data type handed in, so they
are for evaluation, not for use inside `jax.jit`.

Missing values are NaN and are left out: cell by cell where two arrays are compared cell by cell,
sample by sample where samples are projected. Infinite values are an error.
"""

from typing import Annotated, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike, NDArray

from denograd_jax.errors import DataError, ShapeError

__all__ = [
    "column_correlation",
    "correlation_consistency",
    "correlation_distance",
    "error_ratio",
    "error_ratio_by_column",
    "sliced_wasserstein",
    "wasserstein_1d",
]

Samples: TypeAlias = Annotated[NDArray[np.float64], "sample column"]
Columns: TypeAlias = Annotated[NDArray[np.float64], "column"]


def sliced_wasserstein(
    a: ArrayLike, b: ArrayLike, *, directions: int = 100, key: jax.Array
) -> float:
    r"""Sliced 2-Wasserstein distance between two samples of the same columns.

    ``SWD = ( mean over K random unit directions of W_2^2 of the projections )^(1/2)``

    The order of the samples does not matter, so `a` and `b` may differ in length. Bring the columns
    to a common scale first: the distance mixes their units.

    Args:
        a: Samples by columns, `(n, d)` or `(n,)`. Samples with a missing value are left out.
        b: Samples by columns, `(m, d)` or `(m,)`. Samples with a missing value are left out.
        directions: Number K of random directions.
        key: Key of `jax.random` that draws the directions; the same key gives the same directions.

    Returns:
        The distance, in the common unit of the columns; 0 when both samples are the same.

    Raises:
        ShapeError: The numbers of columns differ.
        DataError: A value is infinite, no complete sample is left or `directions` is below 1.

    References:
        Bonneel, Rabin, Peyre and Pfister, "Sliced and Radon Wasserstein barycenters of measures",
        Journal of Mathematical Imaging and Vision 51, 2015.
    """
    a, b = _samples(a, "a"), _samples(b, "b")
    _same_columns(a, b)
    if directions < 1:
        raise DataError(f"directions is {directions}, but at least 1 direction is needed.")
    a, b = _complete(a, "a"), _complete(b, "b")
    units = _unit_directions(directions, a.shape[1], key)
    return float(np.sqrt(np.mean([_transport_cost(a @ u, b @ u, order=2) for u in units])))


def wasserstein_1d(before: ArrayLike, after: ArrayLike, *, order: int = 2) -> Columns:
    """Wasserstein distance between each column before and the same column after.

    With `order=2` and one column it is what `sliced_wasserstein` reduces to; `order=1` is the area
    between the two distribution functions.

    Args:
        before: Samples by columns, `(n, d)` or `(n,)`.
        after: The same shape. A cell missing in either is left out of both.
        order: Exponent p >= 1 of the distance.

    Returns:
        One distance per column, `(d,)`, in the column's unit; NaN where no pair is left.

    Raises:
        ShapeError: The shapes differ.
        DataError: A value is infinite, there are no samples or `order` is below 1.
    """
    before, after = _pairs(before, after)
    if order < 1:
        raise DataError(f"order is {order}, but a distance needs an order of at least 1.")
    return np.array(
        [
            _transport_cost(x, y, order=order) ** (1 / order) if x.size else np.nan
            for x, y in _observed_pairs(before, after)
        ]
    )


def column_correlation(before: ArrayLike, after: ArrayLike) -> Columns:
    """Pearson correlation between each column before and the same column after.

    Args:
        before: Samples by columns, `(n, d)` or `(n,)`.
        after: The same shape. A cell missing in either is left out of both.

    Returns:
        One correlation per column, `(d,)`; NaN where the column is constant before or after.

    Raises:
        ShapeError: The shapes differ.
        DataError: A value is infinite or there are no samples.
    """
    before, after = _pairs(before, after)
    return np.array([_pearson(x, y) for x, y in _observed_pairs(before, after)])


def correlation_consistency(before: ArrayLike, after: ArrayLike) -> float:
    """Mean over columns of the correlation between the column before and the column after.

    The papers call it feature correlation consistency. Columns that are constant before or after
    have no correlation and are left out.

    Args:
        before: Samples by columns, `(n, d)` or `(n,)`.
        after: The same shape. A cell missing in either is left out of both.

    Returns:
        The mean correlation; 1 when nothing changed.

    Raises:
        ShapeError: The shapes differ.
        DataError: A value is infinite, there are no samples or every column is constant.
    """
    correlations = column_correlation(before, after)
    if np.isnan(correlations).all():
        raise DataError(
            "Every column is constant before or after, so none has a correlation; "
            "hand over at least one column that varies."
        )
    return float(np.nanmean(correlations))


def correlation_distance(before: ArrayLike, after: ArrayLike) -> float:
    """Distance between the correlation matrices, ``||corr(before) - corr(after)||_F / d``.

    Each correlation is taken over the samples in which both columns are observed. A correlation
    that is undefined in either matrix (a constant column) counts as no difference.

    Args:
        before: Samples by columns, `(n, d)`.
        after: Samples by columns, `(m, d)`; m may differ from n.

    Returns:
        The distance; 0 when all correlations are the same.

    Raises:
        ShapeError: The numbers of columns differ.
        DataError: A value is infinite or there are no samples.
    """
    before, after = _samples(before, "before"), _samples(after, "after")
    _same_columns(before, after)
    difference = _correlation_matrix(before) - _correlation_matrix(after)
    return float(np.linalg.norm(np.nan_to_num(difference)) / before.shape[1])


def error_ratio(
    refined: ArrayLike, noisy: ArrayLike, clean: ArrayLike, *, scale: ArrayLike | None = None
) -> float:
    """Error that is left, ``RMSE(refined, clean) / RMSE(noisy, clean)``, over all cells.

    Below 1 the refinement helped, 1 is doing nothing, above 1 it did harm.

    Args:
        refined: Samples by columns, `(n, d)` or `(n,)`.
        noisy: The same shape.
        clean: The same shape. A cell missing in any of the three is left out of all.
        scale: Standard deviation per column, `(d,)`, by which errors are divided before they are
            pooled. Without it the columns must already share one unit.

    Returns:
        The ratio; infinite when only `noisy` equals `clean`, NaN when `refined` does as well.

    Raises:
        ShapeError: The shapes differ.
        DataError: A value is infinite, no cell is left or a scale is not a positive number.
    """
    left, given = _squared_errors(refined, noisy, clean)
    if scale is not None:
        squared_scale = _column_scale(scale, given.shape[1]) ** 2
        left, given = left / squared_scale, given / squared_scale
    if np.isnan(given).all():
        raise DataError("No cell is observed in refined, noisy and clean alike.")
    return float(_root_ratio(np.nansum(left), np.nansum(given)))


def error_ratio_by_column(refined: ArrayLike, noisy: ArrayLike, clean: ArrayLike) -> Columns:
    """Error that is left in each column, ``RMSE(refined, clean) / RMSE(noisy, clean)``.

    Args:
        refined: Samples by columns, `(n, d)` or `(n,)`.
        noisy: The same shape.
        clean: The same shape. A cell missing in any of the three is left out of all.

    Returns:
        One ratio per column, `(d,)`; infinite where only `noisy` equals `clean`, NaN where
        `refined` does as well or no cell is left.

    Raises:
        ShapeError: The shapes differ.
        DataError: A value is infinite or there are no samples.
    """
    left, given = _squared_errors(refined, noisy, clean)
    return _root_ratio(np.nansum(left, axis=0), np.nansum(given, axis=0))


def _transport_cost(a: Columns, b: Columns, *, order: int) -> float:
    """W_p^p between two samples on a line: the integral of |Q_a - Q_b|^p over the levels.

    Both quantile functions are steps. Between neighbouring levels of {i/n} and {j/m} both are
    constant, so the integral is a finite sum. Levels are counted in units of 1/(n m) to be exact.
    """
    a, b = np.sort(a), np.sort(b)
    n, m = a.size, b.size
    if n == m:
        return float(np.mean(np.abs(a - b) ** order))
    levels = np.union1d(np.arange(1, n + 1) * m, np.arange(1, m + 1) * n)
    mass = np.diff(levels, prepend=0) / (n * m)
    gap = a[(levels - 1) // m] - b[(levels - 1) // n]
    return float(mass @ np.abs(gap) ** order)


def _unit_directions(count: int, columns: int, key: jax.Array) -> Samples:
    # The data type is fixed so that the directions do not depend on the x64 setting.
    normal = np.asarray(jax.random.normal(key, (count, columns), jnp.float32), np.float64)
    units: Samples = normal / np.linalg.norm(normal, axis=1, keepdims=True)
    return units


def _pearson(x: Columns, y: Columns) -> float:
    # Compare values, not standard deviations: rounding gives a constant column a tiny one.
    if x.size == 0 or x.min() == x.max() or y.min() == y.max():
        return np.nan
    x, y = x - x.mean(), y - y.mean()
    return float(x @ y / (np.linalg.norm(x) * np.linalg.norm(y)))


def _correlation_matrix(samples: Samples) -> Samples:
    import pandas as pd

    # Over the samples in which both columns are observed; NaN for constant columns.
    correlation: Samples = pd.DataFrame(samples).corr().to_numpy()
    return correlation


def _squared_errors(
    refined: ArrayLike, noisy: ArrayLike, clean: ArrayLike
) -> tuple[Samples, Samples]:
    """Squared errors of `refined` and of `noisy`; NaN in both where any of the three is missing."""
    refined, noisy, clean = (
        _samples(refined, "refined"),
        _samples(noisy, "noisy"),
        _samples(clean, "clean"),
    )
    _same_shape(refined, clean, "refined", "clean")
    _same_shape(noisy, clean, "noisy", "clean")
    left, given = (refined - clean) ** 2, (noisy - clean) ** 2
    missing = np.isnan(left) | np.isnan(given)
    return np.where(missing, np.nan, left), np.where(missing, np.nan, given)


def _root_ratio(left: ArrayLike, given: ArrayLike) -> Columns:
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio: Columns = np.sqrt(np.divide(left, given))
    return ratio


def _samples(values: ArrayLike, name: str) -> Samples:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim not in (1, 2):
        raise ShapeError(
            f"{name} has shape {array.shape}, but samples by columns, (n, d) or (n,), is expected."
        )
    if array.size == 0:
        raise DataError(
            f"{name} has shape {array.shape}, but at least one sample and one column are needed."
        )
    if np.isinf(array).any():
        raise DataError(f"{name} has infinite values; mark missing values with NaN.")
    return array[:, None] if array.ndim == 1 else array


def _pairs(before: ArrayLike, after: ArrayLike) -> tuple[Samples, Samples]:
    before, after = _samples(before, "before"), _samples(after, "after")
    _same_shape(before, after, "before", "after")
    return before, after


def _observed_pairs(before: Samples, after: Samples) -> list[tuple[Columns, Columns]]:
    observed = ~(np.isnan(before) | np.isnan(after))
    return [(x[o], y[o]) for x, y, o in zip(before.T, after.T, observed.T, strict=True)]


def _complete(samples: Samples, name: str) -> Samples:
    complete = samples[~np.isnan(samples).any(axis=1)]
    if len(complete) == 0:
        raise DataError(f"Every sample of {name} has a missing value; leave out sparse columns.")
    return complete


def _column_scale(scale: ArrayLike, columns: int) -> Columns:
    array = np.asarray(scale, dtype=np.float64)
    if array.shape != (columns,):
        raise ShapeError(f"scale has shape {array.shape}, but ({columns},) is expected.")
    if not (np.isfinite(array) & (array > 0)).all():
        raise DataError("scale must hold one positive, finite number per column.")
    return array


def _same_columns(a: Samples, b: Samples) -> None:
    if a.shape[1] != b.shape[1]:
        raise ShapeError(
            f"The samples have {a.shape[1]} and {b.shape[1]} columns, but must have the same."
        )


def _same_shape(a: Samples, b: Samples, name_a: str, name_b: str) -> None:
    if a.shape != b.shape:
        raise ShapeError(
            f"{name_a} has shape {a.shape} and {name_b} {b.shape}, but they must be the same."
        )
