"""NumPy arrays, of one or two axes."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from denograd_jax._frames._columns import is_number
from denograd_jax._frames._containers._cells import changed_cells, has_fractions
from denograd_jax._frames._containers._views import View, whole
from denograd_jax.errors import DataError, ShapeError, UnsupportedError

__all__ = ["in_native_order", "refuse_array_type", "view_array", "with_changes"]


def view_array(data: NDArray[Any], role: str) -> View:
    """Columns are numbered from 0."""
    refuse_array_type(data, role)
    if data.ndim not in (1, 2):
        hint = f" (series of equal length go in as list({role}))" if data.ndim == 3 else ""
        raise ShapeError(
            f"{role} must have shape (rows, columns) or (rows,), not {data.shape}{hint}."
        )
    if data.size == 0:
        raise DataError(f"there is nothing to refine: {role} has shape {data.shape}.")
    frame = pd.DataFrame(in_native_order(data.reshape(len(data), 1 if data.ndim == 1 else -1)))
    return View(
        "NumPy array",
        frame,
        close=lambda refined: with_changes(data, frame, refined),
        pick=whole if data.ndim == 1 else lambda closed, positions: closed[:, positions],
        indexed=False,
        named=False,
    )


def with_changes(array: NDArray[Any], before: pd.DataFrame, after: pd.DataFrame) -> NDArray[Any]:
    """A copy of an array with the cells that differ between two frames of its columns.

    Args:
        array: `(N,)` or `(N, d)`; one of integers becomes float64 if fractions come in.
        before: `(N, d)`, as read from `array`.
        after: `(N, d)`, refined.
    """
    changes = [
        (j, *changed_cells(before.iloc[:, j], after.iloc[:, j]))
        for j in range(before.shape[1])
        if is_number(before.iloc[:, j])
    ]
    fractions = any(has_fractions(numbers) for _, rows, numbers in changes if len(rows))
    changed = np.array(array, np.float64 if fractions and array.dtype.kind in "iu" else None)
    table = changed[:, None] if changed.ndim == 1 else changed
    for j, rows, numbers in changes:
        table[rows, j] = numbers
    return changed


def in_native_order(array: NDArray[Any]) -> NDArray[Any]:
    """A copy in the machine's byte order, as pandas needs; files often have the other."""
    return np.array(array, array.dtype.newbyteorder("="))


def refuse_array_type(array: NDArray[Any], role: str) -> None:
    """Arrays whose cells are no plain values."""
    if isinstance(array, np.ma.MaskedArray):
        raise UnsupportedError(
            f"{role} is a masked array: mark what is missing by NaN, with .filled(np.nan)."
        )
    if array.dtype.names is not None:
        raise UnsupportedError(f"{role} is a structured array: pass pd.DataFrame(array).")
