"""The order of a series: which rows are neighbours in time, and where no window may pass."""

import datetime
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
    "time_column",
    "time_stamps",
    "usual_step",
]

GAP = 1.5
"""A step longer than this many usual steps is a gap."""

EVEN = 0.1 + 1e-9
"""Steps that differ from the usual one by this part of it are even, as months of 28 to 31 days."""

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
            usual `steps` lie between them.
        notes: What a user should know about what was not looked at.
    """

    order: NDArray[np.intp]
    segments: NDArray[np.int32]
    time: NDArray[Any] | None
    groups: NDArray[Any] | None
    gaps: pd.DataFrame
    notes: list[str]


class _Steps(NamedTuple):
    """The steps of time from each row to the next.

    Attributes:
        called: What messages call the time stamps.
        given: `(N,)` time stamps as given, in frame order.
        stamps: The same as dates or numbers.
        order: As of `Timeline`.
        within: `(N - 1,)` whether a step stays in its group, aligned with `order[1:]`.
        lengths: `(N - 1,)` steps of dates in seconds, of numbers as they are.
    """

    called: str
    given: pd.Series
    stamps: NDArray[Any]
    order: NDArray[np.intp]
    within: NDArray[np.bool_]
    lengths: NDArray[Any]

    def first(self, some: NDArray[np.bool_]) -> str:
        """Where the first of some steps ends."""
        row = self.order[1:][np.argmax(some)]
        return f"row {row} ({self.given.iloc[row]})"

    def told(self, length: float) -> str:
        """A step in words."""
        dates = self.stamps.dtype.kind == "M"
        return str(datetime.timedelta(seconds=length)) if dates else f"{length:g}"


def read_timeline(
    frame: pd.DataFrame,
    time: Hashable | None,
    groups: Sequence[Hashable],
    irregular: Irregular | None = None,
    usual: float | None = None,
    *,
    partial: bool = False,
) -> Timeline:
    """Find groups and gaps; nothing is sorted, rows of a group keep the order given.

    Args:
        frame: The data.
        time: Column, or named level of the index, of time stamps. Without it the dates of an index
            are checked for order all the same, but its gaps are only told.
        groups: Columns, or named levels of the index, that tell the series apart.
        irregular: "segment" cuts a series at steps that are neither even nor gaps too; without it,
            they are refused.
        usual: The usual step, as `usual_step` gives it; that of this data unless given.
        partial: Whether these are a few rows of a series that is still coming in, whose sampling
            they do not tell.

    Raises:
        DataError: Time stamps that are missing, not increasing within a group, repeated, or
            irregular; or a group with steps of its own.
        ColumnError: A time column that holds neither dates nor numbers.
    """
    codes, names = group_codes(frame, groups)
    order = np.argsort(codes, kind="stable")
    within = np.diff(codes[order]) == 0
    given, called = time_column(frame, time, groups)
    steps = None if given is None else _read_steps(given, called, order, within)
    if steps is None or time is None:
        notes = [] if steps is None else _notes_of_index(steps, groups)
        return Timeline(order, _segments(~within), None, names, _gap_table(), notes)
    keys = [*groups, time]
    by = " and ".join(map(repr, keys))
    in_pandas = f"frame.sort_values({keys if groups else time!r})"
    _refuse_disorder(steps, f"sort the rows by {by} first (in pandas: {in_pandas})", groups)
    usual = usual or _median(steps.lengths[within])
    if not partial:
        _refuse_other_sampling(steps, codes, names, usual)
    uneven = within & (np.abs(steps.lengths - usual) > EVEN * usual)
    if irregular is None:
        _refuse_irregular(steps, uneven & (steps.lengths <= GAP * usual), usual)
    ends = np.flatnonzero(uneven)
    table = _gap_table(
        None if names is None else names[order[ends]],
        steps.stamps[order[ends]],
        steps.stamps[order[ends + 1]],
        steps.lengths[ends] / usual if len(ends) else steps.lengths[:0],
    )
    return Timeline(order, _segments(~within | uneven), steps.stamps, names, table, [])


def usual_step(frame: pd.DataFrame, time: Hashable, groups: Sequence[Hashable]) -> float:
    """The median step of time within groups: of dates in seconds, of numbers as they are."""
    codes, _ = group_codes(frame, groups)
    order = np.argsort(codes, kind="stable")
    given, called = time_column(frame, time)
    assert given is not None
    steps = _read_steps(given, called, order, np.diff(codes[order]) == 0)
    return _median(steps.lengths[steps.within])


def time_column(
    frame: pd.DataFrame, time: Hashable | None, groups: Sequence[Hashable] = ()
) -> tuple[pd.Series | None, str]:
    """The time stamps of a frame, numbered from 0, and what messages call them.

    Without `time` these are the dates of its index, where it has one level of them that is no
    group; else None.
    """
    if time is not None:
        return column_or_level(frame, time), f"time column {time!r}"
    index = frame.index
    levels = [index.get_level_values(k) for k in range(index.nlevels)]
    dates = [
        level
        for level in levels
        if isinstance(level, pd.DatetimeIndex | pd.PeriodIndex)
        and (level.name is None or level.name not in groups)
    ]
    if len(dates) != 1:
        return None, ""
    return dates[0].to_series(index=pd.RangeIndex(len(frame))), "the index"


def _read_steps(
    given: pd.Series, called: str, order: NDArray[np.intp], within: NDArray[np.bool_]
) -> _Steps:
    stamps = time_stamps(given, called)
    lengths = np.diff(stamps[order])
    if stamps.dtype.kind == "M":
        lengths = lengths / np.timedelta64(1, "s")
    return _Steps(called, given, stamps, order, within, lengths)


def _segments(cuts: NDArray[np.bool_]) -> NDArray[np.int32]:
    return np.concatenate([[0], np.cumsum(cuts)]).astype(np.int32)


def _gap_table(
    groups: NDArray[Any] | None = None,
    after: Any = (),
    before: Any = (),
    steps: Any = (),
) -> pd.DataFrame:
    return pd.DataFrame({"group": groups, "after": after, "before": before, "steps": steps})


def _notes_of_index(steps: _Steps, groups: Sequence[Hashable]) -> list[str]:
    """What to know of an index of dates that nobody named: its rows count as evenly spaced."""
    name = steps.given.name
    in_xarray = "" if name is None else f", in xarray: data.sortby({name!r})"
    advice = f"sort the rows by it first (in pandas: frame.sort_index(){in_xarray})"
    _refuse_disorder(steps, advice, groups)
    gaps = steps.within & (steps.lengths > GAP * _median(steps.lengths[steps.within]))
    if not gaps.any():
        return []
    naming = "" if name is not None else "name the index, as by frame.rename_axis('time'), and "
    return [
        f"the dates in the index have {gaps.sum()} gap(s), which windows cross, as rows are taken "
        f"as evenly spaced: {naming}give time={'time' if name is None else name!r} to cut there"
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


def time_stamps(column: pd.Series, called: str) -> NDArray[Any]:
    """Time stamps as datetime64 or numbers; durations as seconds."""
    if column.isna().any():
        raise DataError(f"{called} has missing values: fill or drop those rows.")
    if pd.api.types.is_integer_dtype(column.dtype):
        return column.to_numpy(np.int64)
    if is_number(column):
        stamps = column.to_numpy(np.float64)
        if np.isinf(stamps).any():
            raise DataError(f"{called} has infinite values: replace those.")
        return stamps
    if isinstance(column.dtype, pd.PeriodDtype):
        return np.asarray(column.dt.to_timestamp())
    if pd.api.types.is_timedelta64_dtype(column.dtype):
        return np.asarray(column.dt.total_seconds())
    return _parsed(column, called)


def _parsed(column: pd.Series, called: str) -> NDArray[Any]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # days before months are told by the first date
            warnings.filterwarnings("error", "Could not infer format")  # it guesses each one's
            stamps = pd.to_datetime(column, utc=True)
            if _is_ambiguous(column, stamps):
                raise ValueError("days and months cannot be told apart")
    except (ValueError, TypeError, UserWarning) as error:
        raise ColumnError(
            f"{called} holds neither numbers nor dates in one clear format ({column.iloc[0]!r}): "
            "convert it first, to dates such as 2024-01-31 (in pandas: with pd.to_datetime or "
            "pd.to_numeric)."
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


def _median(steps: NDArray[Any]) -> float:
    return float(np.median(steps)) if len(steps) else 0.0


def _refuse_disorder(steps: _Steps, advice: str, groups: Sequence[Hashable]) -> None:
    wrong = steps.within & (steps.lengths <= 0)
    if not wrong.any():
        return
    within = " within its group" if groups else ""
    tell_apart = "" if groups else ", or name what tells several series apart as a group"
    if np.all(steps.lengths[wrong] == 0):
        raise DataError(
            f"{steps.called} repeats a time{within} at {steps.first(wrong)}: drop the duplicates"
            f"{tell_apart}."
        )
    raise DataError(
        f"{steps.called} is not increasing{within} at {steps.first(wrong)}: {advice}{tell_apart}."
    )


def _refuse_irregular(steps: _Steps, uneven: NDArray[np.bool_], usual: float) -> None:
    if not uneven.any():
        return
    length = steps.lengths[np.argmax(uneven)]
    raise DataError(
        f"{steps.called} is irregular: {uneven.sum()} step(s) differ by more than 10 % from the "
        f"usual one of {steps.told(usual)} and are no gaps, the first, of {steps.told(length)}, "
        f"ends at {steps.first(uneven)}. Resample the data to even steps, or set "
        'irregular="segment" (on the command line --irregular) to let no window cross an uneven '
        "step."
    )


def _refuse_other_sampling(
    steps: _Steps, codes: NDArray[np.intp], names: NDArray[Any] | None, usual: float
) -> None:
    """Refuse a series that would be cut at each of its steps; fewer than 3 do not tell."""
    lengths = pd.Series(steps.lengths[steps.within], dtype=np.float64)
    of_group = lengths.groupby(codes[steps.order][1:][steps.within])
    medians = of_group.median()[of_group.size() >= 3]
    others = medians[(medians * GAP < usual) | (medians > GAP * usual)]
    if not len(others):
        return
    own, told = steps.told(float(others.iloc[0])), steps.told(usual)
    if names is None:
        raise DataError(
            f"{steps.called} has steps of {own}, but the model was fitted to steps of {told}: "
            "resample the data, or refine it apart, with a model fitted to it."
        )
    more = f" (so do {len(others) - 1} more with steps of their own)" if len(others) > 1 else ""
    name = names[np.argmax(codes == others.index[0])]
    raise DataError(
        f"series {name!r} has steps of {own}, but the usual one is {told}{more}: refine it apart, "
        "or resample it."
    )
