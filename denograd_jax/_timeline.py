"""The order of a series: which rows are neighbours in time, and where no window may pass."""

from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from denograd_jax.errors import ColumnError, DataError

__all__ = ["Timeline", "read_timeline"]

GAP = 1.5
"""A step longer than this many median steps is a gap (months of 28 to 31 days are none)."""


class Timeline(NamedTuple):
    """How the rows of a frame follow each other.

    Attributes:
        order: `(N,)` row numbers that bring each group's rows together, in the order given.
        segments: `(N,)` integers, aligned with `order`: changes at each group and each gap.
        time: `(N,)` time stamps as given (frame order), or None.
        groups: `(N,)` group labels (frame order), or None.
        gaps: How many gaps were found.
    """

    order: np.ndarray
    segments: np.ndarray
    time: np.ndarray | None
    groups: np.ndarray | None
    gaps: int


def read_timeline(
    frame: pd.DataFrame, time: Hashable | None, groups: Sequence[Hashable]
) -> Timeline:
    """Find groups and gaps; nothing is sorted, rows of a group keep the order given.

    Raises:
        DataError: Time stamps that are missing, not increasing within a group, or repeated.
        ColumnError: A time column that holds neither dates nor numbers.
    """
    codes, names = _group_codes(frame, groups)
    order = np.argsort(codes, kind="stable")
    breaks = np.diff(codes[order]) != 0
    gaps = 0
    stamps = None
    if time is not None:
        stamps = _time_stamps(frame[time], time)
        steps = np.diff(stamps[order].astype(np.float64 if stamps.dtype.kind == "f" else np.int64))
        inside = steps[~breaks]
        _refuse_disorder(inside, stamps, order, breaks, time, grouped=bool(groups))
        too_long = ~breaks & (steps > GAP * np.median(inside)) if len(inside) else breaks
        gaps = int(too_long.sum())
        breaks = breaks | too_long
    segments = np.concatenate([[0], np.cumsum(breaks)]).astype(np.int32)
    return Timeline(order, segments, stamps, names, gaps)


def _group_codes(
    frame: pd.DataFrame, groups: Sequence[Hashable]
) -> tuple[np.ndarray, np.ndarray | None]:
    if not groups:
        return np.zeros(len(frame), np.int64), None
    keys = frame[list(groups)]
    if keys.isna().to_numpy().any():
        raise DataError(f"group column(s) {list(groups)} have missing values: fill or drop them.")
    codes = keys.groupby(list(groups), sort=False, observed=True).ngroup().to_numpy()
    names = keys.astype(str).agg(" / ".join, axis=1).to_numpy()
    return codes, names


def _time_stamps(column: pd.Series, label: Hashable) -> np.ndarray:
    """Time stamps as datetime64 or numbers."""
    if column.isna().any():
        raise DataError(f"time column {label!r} has missing values: fill or drop those rows.")
    if pd.api.types.is_numeric_dtype(column.dtype):
        return column.to_numpy()
    if isinstance(column.dtype, pd.PeriodDtype):
        return column.dt.to_timestamp().to_numpy()
    try:
        stamps = pd.to_datetime(column, utc=True)
    except (ValueError, TypeError) as error:
        raise ColumnError(
            f"time column {label!r} holds neither dates nor numbers: {column.iloc[0]!r}"
        ) from error
    return stamps.dt.tz_localize(None).to_numpy()


def _refuse_disorder(
    steps: np.ndarray,
    stamps: np.ndarray,
    order: np.ndarray,
    breaks: np.ndarray,
    label: Hashable,
    *,
    grouped: bool,
) -> None:
    if not (steps <= 0).any():
        return
    row = order[1:][~breaks][int(np.argmax(steps <= 0))]
    where = "within its group " if grouped else ""
    if (steps == 0).any() and not (steps < 0).any():
        raise DataError(
            f"time column {label!r} repeats {where}at row {row} ({stamps[row]}): drop duplicates, "
            "or name the column that tells the series apart as a group."
        )
    raise DataError(
        f"time column {label!r} is not increasing {where}at row {row} ({stamps[row]}): sort the "
        f"data first, for example frame.sort_values({label!r})."
    )
