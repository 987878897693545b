"""DataFrames and Series of polars."""

from typing import Any

import numpy as np
import pandas as pd
import polars as pl
from numpy.typing import NDArray

from denograd_jax._frames._columns import is_number
from denograd_jax._frames._containers._cells import changed_cells, has_fractions
from denograd_jax._frames._containers._views import View, whole
from denograd_jax.errors import UnsupportedError

__all__ = ["view_polars"]


def view_polars(data: Any, role: str) -> View:
    """A frame, or a Series as its one column, called "value" if it has no name.

    Null and NaN are both seen as missing, and stay what they are. Nested columns are seen as empty.
    """
    if isinstance(data, pl.LazyFrame):
        raise UnsupportedError(f"{role} is a polars LazyFrame: collect it first, with .collect().")
    if isinstance(data, pl.Series):
        return _view_series(data)
    if isinstance(data, pl.DataFrame):
        return _view_frame(data)
    raise UnsupportedError(
        f"{role} must be a polars DataFrame or Series, not {type(data).__name__}: evaluate it "
        "first, for example with frame.select(...)."
    )


def _view_frame(data: pl.DataFrame) -> View:
    columns = {column.name: _as_pandas(column) for column in data.iter_columns()}
    frame = pd.DataFrame(columns, index=pd.RangeIndex(data.height))

    def close(refined: pd.DataFrame) -> pl.DataFrame:
        return data.with_columns(
            [
                _with_changes(column, frame[column.name], refined[column.name])
                for column in data.iter_columns()
                if is_number(frame[column.name])
            ]
        )

    return View(
        "polars DataFrame",
        frame,
        close,
        pick=lambda closed, positions: closed[:, positions],
        indexed=False,
        named=True,
    )


def _view_series(data: pl.Series) -> View:
    name = data.name or "value"
    frame = _as_pandas(data).to_frame(name)

    def close(refined: pd.DataFrame) -> pl.Series:
        if not is_number(frame[name]):
            return data
        return _with_changes(data, frame[name], refined[name])

    return View("polars Series", frame, close, whole, indexed=False, named=bool(data.name))


def _with_changes(column: pl.Series, before: pd.Series, after: pd.Series) -> pl.Series:
    """The column with the cells that differ; integers become Float64 if fractions come in."""
    rows, numbers = changed_cells(before, after)
    if not len(rows):
        return column
    fractions = has_fractions(numbers)
    kind = pl.Float64() if fractions and column.dtype.is_integer() else column.dtype
    cells: NDArray[Any] = np.zeros(len(column), numbers.dtype)
    cells[rows] = numbers
    differs = np.zeros(len(column), bool)
    differs[rows] = True
    wide = cells.dtype == object  # integers of 128 bits
    changed = pl.Series(column.name, cells.tolist(), kind) if wide else pl.Series(cells).cast(kind)
    return changed.zip_with(pl.Series(differs), column.cast(kind)).rename(column.name)


def _as_pandas(column: pl.Series) -> pd.Series:
    """A column for reading, without pyarrow, which `Series.to_pandas` would need."""
    kind = column.dtype
    if kind.is_integer():
        return _integers(column)
    if kind.is_float() or kind in (pl.Date, pl.Duration):
        return pd.Series(column.to_numpy())
    if isinstance(kind, pl.Datetime):
        stamps = pd.Series(column.to_numpy())
        zone = kind.time_zone
        return stamps if zone is None else stamps.dt.tz_localize("UTC").dt.tz_convert(zone)
    unseen = kind.is_nested() or kind == pl.Object
    return pd.Series([None] * len(column) if unseen else column.to_list(), dtype=object)


def _integers(column: pl.Series) -> pd.Series:
    if str(column.dtype) in ("Int128", "UInt128"):  # NumPy has none
        return pd.Series(column.to_list(), dtype=object)
    if not column.null_count():
        return pd.Series(column.to_numpy())
    values = column.fill_null(0).to_numpy()
    return pd.Series(pd.arrays.IntegerArray(values, column.is_null().to_numpy()))
