"""The rows of a series as they follow each other: group by group, in time, with their gaps."""

from collections.abc import Hashable
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

if TYPE_CHECKING:
    from denograd_jax._frames._refinement import Refinement

__all__ = ["STRETCH", "Order", "busiest_stretch", "read_order"]

Floats: TypeAlias = NDArray[np.float64]
Clock: TypeAlias = Literal["time", "number", "row"]

STRETCH = 120
"""Rows that are a stretch worth a picture: five days of hours."""


class Order(NamedTuple):
    """Where each row of a series stands.

    Attributes:
        rows: `(N,)` row numbers that bring the rows of each group together, in the order given.
        starts: `(G + 1,)` where the groups begin in `rows`, and its end.
        labels: Name of each group; None of the only one.
        x: `(N,)` when, aligned with `rows`: milliseconds since 1970, or as given, or row numbers.
        clock: Which of these three `x` is.
        breaks: Positions in `rows` that follow a gap, ascending.
        gaps: `(K, 2)` the times after and before which there is a gap, aligned with `breaks`.
    """

    rows: NDArray[np.intp]
    starts: NDArray[np.intp]
    labels: list[Hashable]
    x: Floats
    clock: Clock
    breaks: NDArray[np.intp]
    gaps: Floats

    def span(self, group: int) -> slice:
        """Where a group stands in `rows`."""
        return slice(int(self.starts[group]), int(self.starts[group + 1]))

    @property
    def stretches(self) -> NDArray[np.int32]:
        """`(N,)` a number for each row of `rows`, the same where neither group nor gap parts."""
        begins = np.zeros(len(self.rows), np.int32)
        begins[self.starts[1:-1]] = 1
        begins[self.breaks] = 1
        return np.cumsum(begins, dtype=np.int32)


def read_order(refinement: "Refinement") -> Order:
    """The rows of a refined series by group and time."""
    count = len(refinement.before)
    codes, labels = np.zeros(count, np.intp), np.array([None])
    if refinement.groups is not None:
        codes, labels = pd.factorize(np.asarray(refinement.groups, object))
    rows = np.argsort(codes, kind="stable")
    starts = np.searchsorted(codes[rows], np.arange(len(labels) + 1))
    time = refinement.time
    x = np.arange(count, dtype=np.float64) if time is None else _moments(np.asarray(time))
    clock: Clock = "row"
    if time is not None:
        clock = "time" if np.asarray(time).dtype.kind == "M" else "number"
    order = Order(
        rows, starts, list(labels), x[rows], clock, np.zeros(0, np.intp), np.zeros((0, 2))
    )
    return order if time is None else _with_gaps(order, refinement.gaps)


def _moments(time: NDArray[np.generic]) -> Floats:
    """Times as numbers: milliseconds since 1970 for dates, which is what browsers count in."""
    if time.dtype.kind == "M":
        return time.astype("datetime64[us]").astype(np.int64) / 1e3
    return np.asarray(time, np.float64)


def _with_gaps(order: Order, gaps: pd.DataFrame) -> Order:
    """Find the rows behind each gap by group and time."""
    if not len(gaps):
        return order
    after, before = (_moments(gaps[name].to_numpy()) for name in ("after", "before"))
    group = np.zeros(len(gaps), np.intp)
    if len(order.labels) > 1:
        group = pd.Index(order.labels, tupleize_cols=False).get_indexer(pd.Index(gaps["group"]))
    breaks = np.full(len(gaps), -1)
    for code in np.unique(group[group >= 0]):
        of_group, span = np.flatnonzero(group == code), order.span(code)
        breaks[of_group] = span.start + np.searchsorted(order.x[span], before[of_group])
    known = np.flatnonzero((breaks >= 0) & (breaks < len(order.rows)))
    known = known[np.argsort(breaks[known], kind="stable")]
    return order._replace(breaks=breaks[known], gaps=np.stack([after, before], axis=1)[known])


def busiest_stretch(sizes: Floats, starts: NDArray[np.intp], length: int = STRETCH) -> slice:
    """The neighbours within one group whose sizes sum up to the most.

    Args:
        sizes: Size of the change of each row, ordered by group, `(N,)`; NaN where missing.
        starts: Where the groups begin, and the end, `(G + 1,)`.
        length: Most rows.

    Returns:
        A slice of `length` rows, or of the whole group where it is shorter.
    """
    total = np.concatenate([[0.0], np.cumsum(np.nan_to_num(sizes))])

    def of_group(begin: int, end: int) -> tuple[float, slice]:
        width = min(length, end - begin)
        sums = total[begin + width : end + 1] - total[begin : end + 1 - width]
        first = int(np.argmax(sums))
        return float(sums[first]), slice(begin + first, begin + first + width)

    spans = zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True)
    return max((of_group(*span) for span in spans), key=lambda found: found[0])[1]
