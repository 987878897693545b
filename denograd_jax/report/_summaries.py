"""Long series in few numbers: the mean, the lowest and the highest of neighbouring rows."""

from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["Summary", "borders", "summarise"]

Values: TypeAlias = NDArray[np.float64]


class Summary(NamedTuple):
    """What a picture needs to know of each bucket of rows; NaN where none has a value.

    Attributes:
        mean: `(B,)`.
        low: Lowest value, so that a spike stays visible however many rows share its bucket, `(B,)`.
        high: Highest value, `(B,)`.
    """

    mean: Values
    low: Values
    high: Values


def borders(
    rows: int, buckets: int, breaks: NDArray[np.intp], sizes: Values | None = None
) -> NDArray[np.intp]:
    """Where the buckets of a series begin.

    Args:
        rows: Length of the series.
        buckets: Most buckets; up to a quarter of them is spent on gaps.
        breaks: Rows that follow a gap, which no bucket should reach across, ascending.
        sizes: Length of each gap; the longest ones count if there are too many.
    """
    most = buckets // 4
    if len(breaks) > most:
        order = np.arange(len(breaks)) if sizes is None else np.argsort(-sizes, kind="stable")
        breaks = breaks[order[:most]]
    regular = np.arange(0, rows, max(1, -(-rows // max(buckets - len(breaks), 1))))
    return np.union1d(regular, breaks).astype(np.intp)


def summarise(values: Values, begins: NDArray[np.intp]) -> Summary:
    """Mean, lowest and highest value of each bucket; what is not finite is left out.

    Args:
        values: `(N,)`, N > 0.
        begins: Where the buckets begin, strictly ascending from 0, `(B,)`.
    """
    known = np.isfinite(values)
    counts = np.add.reduceat(known, begins, dtype=np.float64)
    counts[counts == 0] = np.nan
    finite = np.where(known, values, np.nan)
    return Summary(
        np.add.reduceat(np.where(known, values, 0.0), begins) / counts,
        np.fmin.reduceat(finite, begins),
        np.fmax.reduceat(finite, begins),
    )
