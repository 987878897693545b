"""Refined numbers put back into a frame, in the types that its columns have."""

from collections.abc import Collection, Hashable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from denograd_jax._frames._columns import Floats, is_integer, listed, to_floats

__all__ = ["write_back"]


def write_back(
    frame: pd.DataFrame,
    labels: Collection[Hashable],
    values: Floats,
    *,
    whole: Collection[Hashable] = (),
    limits: Sequence[tuple[Floats | None, Floats | None]] = (),
) -> tuple[pd.DataFrame, Floats, list[str]]:
    """A copy of the frame with these values in its numeric columns.

    Cells that have their value already, or none now, are kept to the bit, whole columns with their
    type. An integer column with new values comes back as floats, since rounding would undo small
    corrections, unless it is among `whole`.

    Args:
        frame: The data; not changed.
        labels: Numeric columns.
        values: Their new values `(N, n)`; NaN leaves a cell as it is.
        whole: Columns whose new values are whole numbers, and stay of an integer type.
        limits: Pairs of least and largest values of each column, `(n,)`, or cell, `(N, n)`, that a
            narrower type must not round beyond; None where free. The last pair goes first.

    Returns:
        The copy; its numbers `(N, n)`, as far as its types can hold them; notes for the user.
    """
    refined, after = frame.copy(), np.array(values, np.float64)
    widened = []
    for j, label in enumerate(labels):
        column = frame[label]
        given = to_floats(column)
        rows = np.flatnonzero((values[:, j] != given) & ~np.isnan(values[:, j]))
        after[:, j] = given
        if not len(rows):
            continue
        integer = is_integer(column)
        if integer and label not in whole:
            column = _as_float(column)
            widened.append(label)
        own = [_of_cells(pair, values.shape, rows, j) for pair in limits]
        new = values[rows, j]
        refined[label] = _replaced(column, rows, new, own, integer=label in whole and integer)
        after[:, j] = to_floats(refined[label])
    if not widened:
        return refined, after, []
    note = (
        "integer columns come back as floats, as their corrections are fractions "
        "(integer=True, on the command line --integers, keeps them integer): "
        f"{listed(widened)}"
    )
    return refined, after, [note]


def _of_cells(
    pair: tuple[Floats | None, Floats | None],
    shape: tuple[int, ...],
    rows: NDArray[np.intp],
    j: int,
) -> tuple[Floats, Floats]:
    """The least and the largest value of some rows of a column."""
    least, largest = pair
    return (
        np.broadcast_to(-np.inf if least is None else least, shape)[rows, j],
        np.broadcast_to(np.inf if largest is None else largest, shape)[rows, j],
    )


def _as_float(column: pd.Series) -> pd.Series:
    """An integer column as floats of the same family; objects hold either."""
    if pd.api.types.is_object_dtype(column.dtype):
        return column
    if isinstance(column.dtype, pd.ArrowDtype):
        return column.astype("double[pyarrow]")
    if isinstance(column.dtype, pd.SparseDtype):
        return column.astype(pd.SparseDtype(np.float64))
    return column.astype("Float64" if isinstance(column.array, pd.arrays.IntegerArray) else float)


def _replaced(
    column: pd.Series,
    rows: NDArray[np.intp],
    new: Floats,
    limits: Sequence[tuple[Floats, Floats]],
    *,
    integer: bool,
) -> pd.Series:
    """The column with new values in some rows, of the type that it had."""
    kind: Any = column.dtype
    if isinstance(kind, pd.SparseDtype):  # has no item assignment
        dense = pd.Series(np.asarray(column), column.index)
        return _replaced(dense, rows, new, limits, integer=integer).astype(kind)
    if pd.api.types.is_object_dtype(kind):
        values = pd.Series([int(v) for v in new] if integer else new, dtype=object)
    else:
        held = _held(new, kind)
        for pair in limits:
            held = _within(held, *pair)
        values = pd.Series(held).astype(kind)
    column = column.copy()
    column.iloc[rows] = values.to_numpy()
    return column


def _held(new: Floats, kind: Any) -> NDArray[Any]:
    """Values as the nearest that a type can hold."""
    numpy_kind = getattr(kind, "numpy_dtype", kind)
    limits = np.iinfo(numpy_kind) if numpy_kind.kind in "iu" else np.finfo(numpy_kind)
    low, high = (float(limit) for limit in (limits.min, limits.max))
    if numpy_kind.kind in "iu" and high > limits.max:  # 2**63 - 1 is not a float
        high = float(np.nextafter(high, 0))
    return np.clip(new, low, high).astype(numpy_kind)


def _within(held: NDArray[Any], lower: Floats, upper: Floats) -> NDArray[Any]:
    """Values that rounding to a narrower type took over a limit, one step back."""
    if held.dtype.kind != "f":
        return held
    exact = held.astype(np.float64)
    held = np.where(exact < lower, np.nextafter(held, np.array(np.inf, held.dtype)), held)
    return np.where(exact > upper, np.nextafter(held, np.array(-np.inf, held.dtype)), held)
