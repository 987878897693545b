"""Which part of the data each row lies in, for cross-fitting."""

import dataclasses

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from denograd_jax.errors import UnsupportedError

__all__ = ["NO_FOLD", "Folds", "make_folds"]

NO_FOLD = -1
"""Of a row whose place is not known: every model is asked."""


@dataclasses.dataclass(frozen=True)
class Folds:
    """A rule by which rows, also of other data, find their fold.

    Attributes:
        count: How many folds there are, K.
        block: Consecutive steps of a series that share a fold; None for rows, where the values of
            a row decide: equal rows share one, and meet again in other data.
    """

    count: int
    block: int | None

    def of(self, values: NDArray[np.float64], order: NDArray[np.intp] | None) -> NDArray[np.intp]:
        """The fold of each row, `(N,)`, from 0 on.

        Args:
            values: The numbers of the table, `(N, n)`.
            order: Its rows in time, `(N,)`; None for rows.
        """
        if self.block is None or order is None:
            # Of a zero there are two, of NaN many.
            plain = np.where(np.isnan(values), np.nan, values + 0.0)
            keys = pd.util.hash_pandas_object(pd.DataFrame(plain), index=False).to_numpy()
            return (keys % np.uint64(self.count)).astype(np.intp)
        folds = np.empty(len(values), np.intp)
        folds[order] = np.arange(len(order)) // self.block % self.count
        return folds


def make_folds(count: int | None, rows: int, *, series: bool) -> Folds | None:
    """Folds of a table of so many rows; None where none are asked for.

    Raises:
        UnsupportedError: Not a whole number of 2 or more, or more folds than rows.
    """
    if count is None:
        return None
    whole = isinstance(count, int | np.integer) and not isinstance(count, bool)
    if not whole or not 2 <= count <= max(rows, 2):
        raise UnsupportedError(
            f"folds must be a whole number from 2 to the number of rows, {rows}, not {count!r}."
        )
    return Folds(int(count), -(-rows // int(count)) if series else None)
