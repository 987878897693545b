"""A data frame as numbers: which columns move, which only inform the model, and the way back."""

import dataclasses
from collections.abc import Collection, Hashable

import numpy as np
import pandas as pd

from denograd_jax.errors import ColumnError, DataError

__all__ = ["Table", "read_table", "write_back"]

MOST_LEVELS = 50
"""A text or category column with more levels keeps the most frequent; the rest share none."""


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
    values: np.ndarray
    movable: np.ndarray
    mean: np.ndarray
    scale: np.ndarray
    indicators: np.ndarray
    notes: tuple[str, ...]

    def standardised(self) -> np.ndarray:
        """`(N, n)` float64 with mean 0 and standard deviation 1, NaN where missing."""
        standardised: np.ndarray = (self.values - self.mean) / self.scale
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
    the model one-hot. Dates, and columns `aside` (time, groups), do neither.

    Raises:
        ColumnError: A target that is not numeric, or no numeric column at all.
        DataError: Infinite values, or a target without a single value.
    """
    numeric: list[Hashable] = [c for c in frame.columns if c not in aside and _is_numeric(frame[c])]
    for label in targets:
        if label not in numeric:
            raise ColumnError(
                f"target column {label!r} is not numeric (its type is {frame[label].dtype}): "
                "only numbers can be refined."
            )
    if not numeric:
        raise ColumnError("no column is numeric: only numbers can be refined.")
    values = np.column_stack([_to_floats(frame[c]) for c in numeric])
    _refuse_unusable(numeric, values, targets)
    notes: list[str] = []
    observed = ~np.isnan(values)
    count = np.maximum(observed.sum(axis=0), 1)
    mean = np.where(observed, values, 0).sum(axis=0) / count
    spread = np.sqrt(np.where(observed, values - mean, 0).__pow__(2).sum(axis=0) / count)
    constant = spread <= 1e-12 * np.maximum(np.abs(mean), 1)
    indicator = _is_indicator(values) & ~constant
    indicator[[numeric.index(t) for t in targets]] = False
    movable = (
        ~constant
        & ~indicator
        & ~np.isin(np.arange(len(numeric)), [numeric.index(c) for c in frozen if c in numeric])
    )
    _note(notes, "constant columns are left as they are", numeric, constant)
    _note(
        notes,
        "columns of two values are taken as indicators and left as they are",
        numeric,
        indicator,
    )
    indicators = _one_hot(
        frame, [c for c in frame.columns if c not in aside and c not in numeric], notes
    )
    return Table(
        tuple(numeric),
        values,
        movable,
        mean,
        np.where(constant, 1.0, spread),
        indicators,
        tuple(notes),
    )


def write_back(
    frame: pd.DataFrame, table: Table, change: np.ndarray, *, round_integers: bool
) -> tuple[pd.DataFrame, list[str]]:
    """A copy of the frame with `change` (N, n), in the user's units, added to the numeric columns.

    Cells whose change is 0 keep their value to the bit, whole columns their type. An integer
    column that moved comes back as floats, since rounding would undo small corrections, unless
    `round_integers`.
    """
    refined = frame.copy()
    widened = []
    for j, label in enumerate(table.labels):
        rows = np.flatnonzero(change[:, j])
        if not len(rows):
            continue
        column, after = frame[label], (table.values[:, j] + change[:, j])[rows]
        if pd.api.types.is_integer_dtype(column.dtype):
            if round_integers:
                after = np.rint(after).astype(np.int64)
            else:
                column = column.astype("Float64" if column.isna().any() else "float64")
                widened.append(label)
        column = column.copy()
        column.iloc[rows] = pd.Series(after).astype(column.dtype).to_numpy()
        refined[label] = column
    notes: list[str] = []
    _note(
        notes,
        "integer columns come back as floats, as their corrections are fractions "
        "(round_integers=True keeps them integer)",
        widened,
        np.ones(len(widened), bool),
    )
    return refined, notes


def _is_numeric(column: pd.Series) -> bool:
    kind = column.dtype
    if pd.api.types.is_bool_dtype(kind) or pd.api.types.is_complex_dtype(kind):
        return False
    if pd.api.types.is_object_dtype(kind):  # numbers with None among them
        inferred = pd.api.types.infer_dtype(column, skipna=True)
        return inferred in ("floating", "integer", "mixed-integer-float")
    return bool(pd.api.types.is_numeric_dtype(kind))


def _to_floats(column: pd.Series) -> np.ndarray:
    floats: np.ndarray = column.to_numpy(dtype=np.float64, na_value=np.nan)
    return floats


def _refuse_unusable(
    labels: list[Hashable], values: np.ndarray, targets: Collection[Hashable]
) -> None:
    infinite = np.isinf(values).sum(axis=0)
    if infinite.any():
        j = int(np.argmax(infinite))
        raise DataError(
            f"column {labels[j]!r} has {infinite[j]} infinite value(s): replace them, or leave "
            "them empty to have them treated as missing."
        )
    for label in targets:
        if np.isnan(values[:, labels.index(label)]).all():
            raise DataError(f"target column {label!r} has no value at all.")


def _is_indicator(values: np.ndarray) -> np.ndarray:
    """Columns in which only 0 and 1 occur."""
    indicator: np.ndarray = np.all(np.isnan(values) | (values == 0) | (values == 1), axis=0)
    return indicator


def _one_hot(frame: pd.DataFrame, labels: list[Hashable], notes: list[str]) -> np.ndarray:
    blocks = [np.zeros((len(frame), 0), np.float32)]
    left_out = []
    for label in labels:
        column = frame[label]
        if not _has_levels(column):
            left_out.append(label)
            continue
        counts = column.value_counts()
        if len(counts) > max(MOST_LEVELS, 2) and len(counts) > len(column) / 2:
            left_out.append(label)  # names and identifiers tell the model nothing
            continue
        codes = pd.Categorical(column, categories=counts.index[:MOST_LEVELS]).codes
        blocks.append(
            (codes[:, None] == np.arange(min(len(counts), MOST_LEVELS))).astype(np.float32)
        )
    _note(
        notes,
        "columns of dates or identifiers are passed through unseen by the model",
        left_out,
        np.ones(len(left_out), bool),
    )
    return np.concatenate(blocks, axis=1)


def _has_levels(column: pd.Series) -> bool:
    kind = column.dtype
    return (
        isinstance(kind, pd.CategoricalDtype)
        or pd.api.types.is_bool_dtype(kind)
        or pd.api.types.is_string_dtype(kind)
    )


def _note(notes: list[str], text: str, labels: Collection[Hashable], chosen: np.ndarray) -> None:
    names = [str(label) for label, yes in zip(labels, chosen, strict=True) if yes]
    if names:
        more = f" and {len(names) - 8} more" if len(names) > 8 else ""
        notes.append(f"{text}: {', '.join(names[:8])}{more}")
