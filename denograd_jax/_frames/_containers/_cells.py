"""Which cells differ between a frame as it was read and the same frame refined."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

__all__ = ["changed_cells", "has_fractions"]


def changed_cells(before: pd.Series, after: pd.Series) -> tuple[NDArray[np.intp], NDArray[Any]]:
    """Rows of a numeric column that have another number than before, and what it is.

    Cells that are missing after are left out: a refinement takes nothing away.

    Returns:
        Row numbers `(k,)`, increasing; numbers `(k,)`: integers from a column of integers, Python
        objects from a column of objects, else float64.
    """
    old, new = _as_numbers(before), _as_numbers(after)
    differs = (old != new) | before.isna().to_numpy()
    rows = np.flatnonzero(differs & after.notna().to_numpy())
    return rows, after.to_numpy()[rows] if after.dtype == object else new[rows]


def has_fractions(numbers: NDArray[Any]) -> bool:
    """Whether numbers of `changed_cells` are floats: a column of integers must become one."""
    if numbers.dtype == object:
        return not all(isinstance(number, int | np.integer) for number in numbers)
    return numbers.dtype.kind == "f"


def _as_numbers(column: pd.Series) -> NDArray[Any]:
    """Integers as they are, since large ones are no floats; all else as float64."""
    kind: Any = column.dtype
    if pd.api.types.is_integer_dtype(kind):
        numpy_kind = getattr(kind, "subtype", getattr(kind, "numpy_dtype", kind))
        return column.to_numpy(dtype=numpy_kind, na_value=0)
    return column.to_numpy(dtype=np.float64, na_value=np.nan)
