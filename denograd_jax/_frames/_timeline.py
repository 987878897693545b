"""The order of a series: which rows are neighbours in time, and where no window may pass."""

import re
import warnings
from collections.abc import Hashable, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from denograd_jax._frames._columns import is_number
from denograd_jax._frames._containers import column_or_level
from denograd_jax.errors import ColumnError, DataError

__all__ = [
    "Irregular",
    "Timeline",
    "group_codes",
    "group_names",
    "read_timeline",
    "time_stamps",
    "usual_step",
]

GAP = 1.5
"""A step longer than this many median steps is a gap (months of 28 to 31 days are none)."""

Irregular: TypeAlias = Literal["segment"]


class Timeline(NamedTuple):
    """How the rows of a frame follow each other.

    Attributes:
        order: `(N,)` row numbers that bring each group's rows together, groups in the order of
            their labels, rows within a group in the order given.
        segments: `(N,)` integers, aligned with `order`: changes at each group and each gap.
        time: `(N,)` time stamps as given (frame order; with a time zone, in UTC), or None.
        groups: `(N,)` group labels (frame order), or None.
        gaps: One row per gap: `group`, the times `after` and `before` which it is, and how many
            median `steps` lie between them.
        notes: What a user should know about what was not looked at.
    """

    order: NDArray[np.intp]
    segments: NDArray[np.int32]
    time: NDArray[Any] | None
    groups: NDArray[Any] | None
    gaps: pd.DataFrame
    notes: list[str]


def read_timeline(
    frame: pd.DataFrame,
    time: Hashable | None,
    groups: Sequence[Hashable],
    irregular: Irregular | None = None,
    usual: float | None = None,
) -> Timeline:
    """Find groups and gaps; nothing is sorted, rows of a group keep the order given.

    Args:
        frame: The data.
        time: Column, or named level of the index, of time stamps.
        groups: Columns, or named levels of the index, that tell the series apart.
        irregular: "segment" cuts a series at steps shorter than the others too; without it, they
            are refused.
        usual: The usual step, as `usual_step` gives it; that of this data unless given.

    Raises:
        DataError: Time stamps that are missing, not increasing within a group, repeated, or
            irregular.
        ColumnError: A time column that holds neither dates nor numbers.
    """
    codes, names = group_codes(frame, groups)
    order = np.argsort(codes, kind="stable")
    borders = np.diff(codes[order]) != 0
    if time is None:
        segments = np.concatenate([[0], np.cumsum(borders)]).astype(np.int32)
        return Timeline(order, segments, None, names, _gap_table(), _index_notes(frame.index, time))
    column = column_or_level(frame, time)
    stamps = time_stamps(column, time)
    steps = _steps(stamps[order])
    median = _median(steps[~borders]) if usual is None else usual

    def where(rows: NDArray[np.bool_]) -> str:
        row = order[1:][np.argmax(rows)]
        return f"row {row} ({column.iloc[row]})"

    wrong = ~borders & (steps <= 0)
    if wrong.any():
        _refuse_disorder(where(wrong), time, groups, repeats=bool(np.all(steps[wrong] == 0)))
    short = ~borders & (steps * GAP < median)
    if short.any() and irregular is None:
        raise DataError(
            f"time column {time!r} is irregular: {int(short.sum())} step(s) are shorter than the "
            f"usual one, the first ends at {where(short)}. Resample the data to even steps, or "
            'set irregular="segment" to let no window cross an uneven step.'
        )
    gaps = short | (~borders & (steps > GAP * median))
    segments = np.concatenate([[0], np.cumsum(borders | gaps)]).astype(np.int32)
    ends = np.flatnonzero(gaps)
    table = _gap_table(
        None if names is None else names[order[ends]],
        stamps[order[ends]],
        stamps[order[ends + 1]],
        steps[ends] / median if len(ends) else steps[:0],
    )
    return Timeline(order, segments, stamps, names, table, [])


def usual_step(frame: pd.DataFrame, time: Hashable, groups: Sequence[Hashable]) -> float:
    """The median step of time within groups: of dates in seconds, of numbers as they are."""
    codes, _ = group_codes(frame, groups)
    order = np.argsort(codes, kind="stable")
    steps = _steps(time_stamps(column_or_level(frame, time), time)[order])
    return _median(steps[np.diff(codes[order]) == 0])


def _gap_table(
    groups: NDArray[Any] | None = None,
    after: Any = (),
    before: Any = (),
    steps: Any = (),
) -> pd.DataFrame:
    return pd.DataFrame({"group": groups, "after": after, "before": before, "steps": steps})


def _index_notes(index: pd.Index, time: Hashable | None) -> list[str]:
    if time is not None or not isinstance(index, pd.DatetimeIndex | pd.PeriodIndex):
        return []
    return [
        "the dates in the index were not looked at: name the index, as by "
        "frame.rename_axis('time'), and give its name as time= to find gaps and disorder"
    ]


def group_names(frame: pd.DataFrame, groups: Sequence[Hashable]) -> NDArray[Any] | None:
    """The name of each row's group, `(N,)`; None without groups.

    Raises:
        DataError: Rows without a group.
    """
    return group_codes(frame, groups)[1]


def group_codes(
    frame: pd.DataFrame, groups: Sequence[Hashable]
) -> tuple[NDArray[np.intp], NDArray[Any] | None]:
    """The number of each row's group, and its name."""
    if not groups:
        return np.zeros(len(frame), np.intp), None
    keys = pd.concat([column_or_level(frame, g) for g in groups], axis=1, keys=range(len(groups)))
    if keys.isna().to_numpy().any():
        raise DataError(f"group column(s) {list(groups)} have missing values: fill or drop them.")
    half = [key for key in keys if keys[key].dtype == np.float16]  # pandas has no index of those
    keys = keys.astype(dict.fromkeys(half, np.float32))
    try:
        codes = np.asarray(keys.groupby(list(keys), observed=True).ngroup(), np.intp)
    except TypeError as error:
        raise ColumnError(
            f"group column(s) {list(groups)} hold objects that cannot be compared, such as lists: "
            "convert them to text."
        ) from error
    _, first = np.unique(codes, return_index=True)
    labels = list(keys.iloc[first].itertuples(index=False, name=None))
    names = [" / ".join(map(str, label)) for label in labels]
    if len(set(names)) < len(names):  # 1 and "1"
        names = [repr(label) for label in labels]
    of_rows: NDArray[Any] = np.array(names, dtype=object)[codes]
    return codes, of_rows


def time_stamps(column: pd.Series, label: Hashable) -> NDArray[Any]:
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
            warnings.simplefilter("ignore")  # days before months are told by the first date
            warnings.filterwarnings("error", "Could not infer format")  # it guesses each one's
            stamps = pd.to_datetime(column, utc=True)
            if _is_ambiguous(column, stamps):
                raise ValueError("days and months cannot be told apart")
    except (ValueError, TypeError, UserWarning) as error:
        raise ColumnError(
            f"time column {label!r} holds neither numbers nor dates in one clear format "
            f"({column.iloc[0]!r}): convert it first, with pd.to_datetime or pd.to_numeric."
        ) from error
    return stamps.dt.tz_localize(None).to_numpy()


def _is_ambiguous(column: pd.Series, stamps: pd.Series) -> bool:
    """Whether 5/2/2020 is in May or in February: no date of the column tells."""
    first = column.iloc[0]
    if not isinstance(first, str) or not re.match(r"\s*\d{1,2}[-/. ]\d{1,2}[-/. ]", first):
        return False
    try:
        return not stamps.equals(pd.to_datetime(column, utc=True, dayfirst=True))
    except ValueError:
        return False


def _steps(stamps: NDArray[Any]) -> NDArray[Any]:
    """Differences of neighbours: of dates in seconds, of numbers as they are."""
    steps = np.diff(stamps)
    return steps / np.timedelta64(1, "s") if stamps.dtype.kind == "M" else steps


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
