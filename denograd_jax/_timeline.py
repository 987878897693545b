"""The order of a series: which rows are neighbours in time, and where no window may pass."""

import warnings
from collections.abc import Hashable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from denograd_jax._containers import column_or_level
from denograd_jax._tables import is_number
from denograd_jax.errors import ColumnError, DataError

__all__ = ["Timeline", "read_timeline"]

GAP = 1.5
"""A step longer than this many median steps is a gap (months of 28 to 31 days are none)."""


class Timeline(NamedTuple):
    """How the rows of a frame follow each other.

    Attributes:
        order: `(N,)` row numbers that bring each group's rows together, groups in the order of
            their labels, rows within a group in the order given.
        segments: `(N,)` integers, aligned with `order`: changes at each group and each gap.
        time: `(N,)` time stamps as given (frame order; with a time zone, in UTC), or None.
        groups: `(N,)` group labels (frame order), or None.
        gaps: How many gaps were found.
        notes: What a user should know about what was not looked at.
    """

    order: NDArray[np.intp]
    segments: NDArray[np.int32]
    time: NDArray[Any] | None
    groups: NDArray[Any] | None
    gaps: int
    notes: list[str]


def read_timeline(
    frame: pd.DataFrame, time: Hashable | None, groups: Sequence[Hashable]
) -> Timeline:
    """Find groups and gaps; nothing is sorted, rows of a group keep the order given.

    Args:
        frame: The data.
        time: Column, or named level of the index, of time stamps.
        groups: Columns, or named levels of the index, that tell the series apart.

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
        column = column_or_level(frame, time)
        stamps = _time_stamps(column, time)
        steps = _steps(stamps[order])
        wrong = ~breaks & (steps <= 0)
        if wrong.any():
            row = order[1:][np.argmax(wrong)]
            repeats = bool(np.all(steps[wrong] == 0))
            _refuse_disorder(f"row {row} ({column.iloc[row]})", time, groups, repeats=repeats)
        too_long = ~breaks & (steps > GAP * _median(steps[~breaks]))
        gaps = int(too_long.sum())
        breaks = breaks | too_long
    segments = np.concatenate([[0], np.cumsum(breaks)]).astype(np.int32)
    return Timeline(order, segments, stamps, names, gaps, _index_notes(frame.index, time))


def _index_notes(index: pd.Index, time: Hashable | None) -> list[str]:
    if time is not None or not isinstance(index, pd.DatetimeIndex | pd.PeriodIndex):
        return []
    return [
        "the dates in the index were not looked at: name the index, as by "
        "frame.rename_axis('time'), and give its name as time= to find gaps and disorder"
    ]


def _group_codes(
    frame: pd.DataFrame, groups: Sequence[Hashable]
) -> tuple[NDArray[np.intp], NDArray[Any] | None]:
    """The number of each row's group, and its name."""
    if not groups:
        return np.zeros(len(frame), np.intp), None
    keys = pd.concat([column_or_level(frame, g) for g in groups], axis=1, keys=range(len(groups)))
    if keys.isna().to_numpy().any():
        raise DataError(f"group column(s) {list(groups)} have missing values: fill or drop them.")
    codes = np.asarray(keys.groupby(list(keys), observed=True).ngroup(), np.intp)
    _, first = np.unique(codes, return_index=True)
    names = [" / ".join(map(str, key)) for key in keys.iloc[first].itertuples(index=False)]
    of_rows: NDArray[Any] = np.array(names, dtype=object)[codes]
    return codes, of_rows


def _time_stamps(column: pd.Series, label: Hashable) -> NDArray[Any]:
    """Time stamps as datetime64 or numbers; durations as seconds."""
    if column.isna().any():
        raise DataError(f"time column {label!r} has missing values: fill or drop those rows.")
    if pd.api.types.is_integer_dtype(column.dtype):
        return column.to_numpy(np.int64)
    if is_number(column):
        stamps = column.to_numpy(np.float64)
        if np.isinf(stamps).any():
            raise DataError(f"time column {label!r} has infinite values: replace those.")
        return stamps
    if isinstance(column.dtype, pd.PeriodDtype):
        return np.asarray(column.dt.to_timestamp())
    if pd.api.types.is_timedelta64_dtype(column.dtype):
        return np.asarray(column.dt.total_seconds())
    return _parsed(column, label)


def _parsed(column: pd.Series, label: Hashable) -> NDArray[Any]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # pandas warns where it guesses each date's format
            stamps = pd.to_datetime(column, utc=True)
    except (ValueError, TypeError, UserWarning) as error:
        raise ColumnError(
            f"time column {label!r} holds neither numbers nor dates in one clear format "
            f"({column.iloc[0]!r}): convert it first, with pd.to_datetime or pd.to_numeric."
        ) from error
    return stamps.dt.tz_localize(None).to_numpy()


def _steps(stamps: NDArray[Any]) -> NDArray[Any]:
    """Differences of neighbours, as numbers."""
    return np.diff(stamps if stamps.dtype.kind == "f" else stamps.astype(np.int64))


def _median(steps: NDArray[Any]) -> float:
    return float(np.median(steps)) if len(steps) else 0.0


def _refuse_disorder(
    where: str, label: Hashable, groups: Sequence[Hashable], *, repeats: bool
) -> None:
    within = " within its group" if groups else ""
    tell_apart = "" if groups else ", or name what tells several series apart as a group"
    if repeats:
        raise DataError(
            f"time column {label!r} repeats a time{within} at {where}: drop the duplicates"
            f"{tell_apart}."
        )
    keys = [*groups, label] if groups else label
    raise DataError(
        f"time column {label!r} is not increasing{within} at {where}: sort the data first, for "
        f"example by frame.sort_values({keys!r}){tell_apart}."
    )
