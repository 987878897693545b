"""A data frame as numbers: which columns move, which only inform the model, and the way back."""

import dataclasses
from collections.abc import Collection, Hashable
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from denograd_jax.errors import ColumnError, DataError

__all__ = ["Table", "is_number", "listed", "read_table", "write_back"]

MOST_LEVELS = 50
"""A text or category column with more levels keeps the most frequent; the rest share none."""
LARGEST = 1e300
"""Differences of larger values are not safe from overflow."""

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclasses.dataclass(frozen=True)
class Table:
    """The numeric view of a frame.

    Attributes:
        labels: Labels of the numeric columns, in the frame's order.
        values: `(N, n)` float64 in the user's units, NaN where missing.
        movable: `(n,)` bool, False for frozen and constant columns and 0/1 indicators.
        mean: `(n,)` mean of each column's observed cells.
        scale: `(n,)` their standard deviation; 1 where that is 0.
        indicators: `(N, k)` float32, the one-hot coding of text, category and boolean columns.
        notes: What a user should know about how columns were treated.
    """

    labels: tuple[Hashable, ...]
    values: Floats
    movable: Flags
    mean: Floats
    scale: Floats
    indicators: NDArray[np.float32]
    notes: tuple[str, ...]

    def standardised(self) -> Floats:
        """`(N, n)` float64 with mean 0 and standard deviation 1, NaN where missing."""
        standardised: Floats = (self.values - self.mean) / self.scale
        return standardised

    def positions(self, labels: Collection[Hashable]) -> list[int]:
        """Where these labels stand among the numeric columns."""
        return [self.labels.index(label) for label in labels]


def read_table(
    frame: pd.DataFrame,
    targets: Collection[Hashable],
    frozen: Collection[Hashable],
    aside: Collection[Hashable],
) -> Table:
    """Sort the columns of a frame into those that move, that inform, and that stand aside.

    Numbers move, unless frozen, constant or 0/1 indicators. Text, categories and booleans inform
    the model one-hot. Dates, columns `aside` (time, groups), and columns that number the rows
    unless they are named in `targets` or `frozen`, do neither.

    Raises:
        ColumnError: A target that is not numeric, or no column that can move.
        DataError: Infinite values, or a target without a single value.
    """
    named = {*targets, *frozen, *aside}
    counters = [c for c in frame.columns if c not in named and _counts_rows(frame[c])]
    aside = {*aside, *counters}
    numeric = {label: is_number(frame[label]) for label in frame.columns if label not in aside}
    labels = tuple(label for label, number in numeric.items() if number)
    _refuse_text(frame, labels, targets)
    values = np.stack([_to_floats(frame[label]) for label in labels]).T
    _refuse_unusable(labels, values, targets)
    mean, scale = _moments(values)
    constant = scale == 0
    binary = _is_binary(values) & ~constant
    movable = ~constant & ~binary & ~np.isin(np.arange(len(labels)), _places(labels, frozen))
    if not movable.any():
        raise ColumnError(
            "no column can move: every numeric column is frozen, constant or holds only 0 and 1."
        )
    indicators, unseen = _one_hot(frame, [c for c, number in numeric.items() if not number])
    notes: dict[str, Collection[Hashable]] = {
        "constant columns are left as they are": _chosen(labels, constant),
        "columns of 0 and 1 are taken as indicators and left as they are": _chosen(labels, binary),
        "columns that number the rows are passed through unseen (frozen= shows them)": counters,
        "columns of dates, names or other objects are passed through unseen by the model": unseen,
    }
    return Table(
        labels,
        values,
        movable,
        mean,
        np.where(constant, 1.0, scale),
        indicators,
        tuple(f"{text}: {listed(found)}" for text, found in notes.items() if found),
    )


def _counts_rows(column: pd.Series) -> bool:
    """Whether whole numbers go up (or down) by the same step from the first row to the last."""
    if not _is_integer(column) or len(column) < MOST_LEVELS or column.isna().any():
        return False
    steps = np.diff(column.to_numpy(np.int64))
    return bool(steps[0] != 0 and (steps == steps[0]).all())


def write_back(
    frame: pd.DataFrame, table: Table, change: Floats, *, round_integers: bool
) -> tuple[pd.DataFrame, Floats, list[str]]:
    """A copy of the frame with `change` (N, n), in the user's units, added to the numeric columns.

    Cells whose change is 0, or that are missing, keep their value to the bit, whole columns their
    type. An integer column that moved comes back as floats, since rounding would undo small
    corrections, unless `round_integers`.

    Returns:
        The copy; its numbers `(N, n)`, as far as its types can hold them; notes for the user.
    """
    refined, after = frame.copy(), table.values.copy()
    widened = []
    for j, label in enumerate(table.labels):
        rows = np.flatnonzero((change[:, j] != 0) & ~np.isnan(table.values[:, j]))
        if not len(rows):
            continue
        column = frame[label]
        integer = _is_integer(column)
        new = (table.values[:, j] + change[:, j])[rows]
        if integer and round_integers:
            new = np.rint(new)
        elif integer:
            column = _as_float(column)
            widened.append(label)
        refined[label] = _replaced(column, rows, new, integer=integer and round_integers)
        after[:, j] = _to_floats(refined[label])
    if not widened:
        return refined, after, []
    note = (
        "integer columns come back as floats, as their corrections are fractions "
        f"(round_integers=True keeps them integer): {listed(widened)}"
    )
    return refined, after, [note]


def is_number(column: pd.Series) -> bool:
    """Whether a column holds real numbers, also as objects with None among them."""
    kind: Any = column.dtype
    if pd.api.types.is_bool_dtype(kind) or pd.api.types.is_complex_dtype(kind):
        return False
    if pd.api.types.is_object_dtype(kind):
        inferred = pd.api.types.infer_dtype(column, skipna=True)
        return inferred in ("floating", "integer", "mixed-integer-float")
    if isinstance(kind, pd.ArrowDtype) and kind.kind == "O":  # decimals
        return False
    return bool(pd.api.types.is_numeric_dtype(kind))


def listed(labels: Collection[Hashable]) -> str:
    """The first of these labels, and how many more there are."""
    more = f" and {len(labels) - 8} more" if len(labels) > 8 else ""
    return ", ".join(str(label) for label in list(labels)[:8]) + more


def _is_integer(column: pd.Series) -> bool:
    if pd.api.types.is_object_dtype(column.dtype):
        return bool(pd.api.types.infer_dtype(column, skipna=True) == "integer")
    return bool(pd.api.types.is_integer_dtype(column.dtype))


def _to_floats(column: pd.Series) -> Floats:
    floats: Floats = column.to_numpy(dtype=np.float64, na_value=np.nan)
    return floats


def _as_float(column: pd.Series) -> pd.Series:
    """An integer column as floats of the same family; objects hold either."""
    if pd.api.types.is_object_dtype(column.dtype):
        return column
    if isinstance(column.dtype, pd.ArrowDtype):
        return column.astype("double[pyarrow]")
    if isinstance(column.dtype, pd.SparseDtype):
        return column.astype(pd.SparseDtype(np.float64))
    return column.astype("Float64" if isinstance(column.array, pd.arrays.IntegerArray) else float)


def _replaced(
    column: pd.Series, rows: NDArray[np.intp], new: Floats, *, integer: bool
) -> pd.Series:
    """The column with new values in some rows, of the type that it had."""
    kind: Any = column.dtype
    if isinstance(kind, pd.SparseDtype):  # has no item assignment
        dense = pd.Series(np.asarray(column), column.index)
        return _replaced(dense, rows, new, integer=integer).astype(kind)
    if pd.api.types.is_object_dtype(kind):
        values = pd.Series([int(v) for v in new] if integer else new, dtype=object)
    else:
        values = pd.Series(_held(new, kind)).astype(kind)
    column = column.copy()
    column.iloc[rows] = values.to_numpy()
    return column


def _held(new: Floats, kind: Any) -> NDArray[Any]:
    """Values as the nearest that a type can hold."""
    numpy_kind = getattr(kind, "numpy_dtype", kind)
    limits = np.iinfo(numpy_kind) if numpy_kind.kind in "iu" else np.finfo(numpy_kind)
    low, high = (float(limit) for limit in (limits.min, limits.max))
    if numpy_kind.kind in "iu" and high > limits.max:  # 2**63 - 1 is not a float
        high = float(np.nextafter(high, 0))
    return np.clip(new, low, high).astype(numpy_kind)


def _refuse_text(
    frame: pd.DataFrame, labels: tuple[Hashable, ...], targets: Collection[Hashable]
) -> None:
    for label in targets:
        if label not in labels:
            raise ColumnError(
                f"target column {label!r} is not numeric (its type is {frame[label].dtype}): "
                "only numbers can be refined. Convert it, for example with .astype(float)."
            )
    if not labels:
        raise ColumnError("no column is numeric: only numbers can be refined.")


def _refuse_unusable(
    labels: tuple[Hashable, ...], values: Floats, targets: Collection[Hashable]
) -> None:
    infinite = (np.abs(values) > LARGEST).sum(axis=0)
    if infinite.any():
        j = int(np.argmax(infinite))
        raise DataError(
            f"column {labels[j]!r} has {infinite[j]} infinite value(s), or beyond {LARGEST:g}: "
            "replace them, or leave them empty to have them treated as missing."
        )
    for label in targets:
        if np.isnan(values[:, labels.index(label)]).all():
            raise DataError(
                f"target column {label!r} has no value at all: there is nothing to learn from."
            )


def _moments(values: Floats) -> tuple[Floats, Floats]:
    """Mean and standard deviation of the observed cells; 0 where they differ by rounding only."""
    observed = ~np.isnan(values)
    count = np.maximum(observed.sum(axis=0), 1)
    filled = np.where(observed, values, 0)
    unit = np.ldexp(1.0, np.frexp(np.abs(filled).max(axis=0))[1] - 1)
    filled /= unit  # else the squares of 1e200 and 1e-200 are lost
    mean = filled.sum(axis=0) / count
    deviation = filled - mean
    rounding = np.where(observed, deviation, 0).sum(axis=0) / count  # of a sum of many rows
    deviation = np.where(observed, deviation - rounding, 0)
    spread = np.sqrt((deviation**2).sum(axis=0) / count)
    constant = np.ptp(deviation, axis=0) <= 4 * np.finfo(float).eps
    return (mean + rounding) * unit, np.where(constant, 0, spread * unit)


def _is_binary(values: Floats) -> Flags:
    """Columns in which only 0 and 1 occur."""
    binary: Flags = np.all(np.isnan(values) | (values == 0) | (values == 1), axis=0)
    return binary


def _places(labels: tuple[Hashable, ...], some: Collection[Hashable]) -> list[int]:
    return [labels.index(label) for label in some if label in labels]


def _chosen(labels: tuple[Hashable, ...], flags: Flags) -> list[Hashable]:
    return [label for label, flag in zip(labels, flags, strict=True) if flag]


def _one_hot(
    frame: pd.DataFrame, labels: Collection[Hashable]
) -> tuple[NDArray[np.float32], list[Hashable]]:
    """One column per frequent level of each column that has levels; and those that have none."""
    blocks = [np.zeros((len(frame), 0), np.float32)]
    unseen = []
    for label in labels:
        levels = _levels(frame[label])
        if levels is None:
            unseen.append(label)
        else:
            codes, count = levels
            blocks.append((codes[:, None] == np.arange(count)).astype(np.float32))
    return np.concatenate(blocks, axis=1), unseen


def _levels(column: pd.Series) -> tuple[NDArray[np.intp], int] | None:
    """The number of each row's level, the most frequent first, and how many levels to tell apart.

    None for dates and other objects, and for names and identifiers, which tell a model nothing.
    """
    if not _has_levels(column):
        return None
    try:
        codes, levels = pd.factorize(column)
    except TypeError:  # lists, dicts
        return None
    if len(levels) > MOST_LEVELS and len(levels) > len(column) / 2:
        return None
    counts = np.bincount(codes[codes >= 0], minlength=len(levels))
    names = [str(level) for level in levels]  # tells ties apart whatever the order of the rows
    ranking = sorted(range(len(levels)), key=lambda code: (-counts[code], names[code]))
    rank = np.full(len(levels) + 1, -1)  # a missing level has code -1: the last
    rank[ranking] = np.arange(len(levels))
    return rank[codes], min(len(levels), MOST_LEVELS)


def _has_levels(column: pd.Series) -> bool:
    kind = column.dtype
    if pd.api.types.is_object_dtype(kind):
        inferred = pd.api.types.infer_dtype(column, skipna=True)
        return inferred in ("string", "boolean", "bytes", "categorical", "mixed", "mixed-integer")
    return (
        isinstance(kind, pd.CategoricalDtype)
        or pd.api.types.is_bool_dtype(kind)
        or pd.api.types.is_string_dtype(kind)
    )
