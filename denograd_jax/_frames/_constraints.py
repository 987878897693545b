"""What refined values must obey, in the user's units: bounds, whole numbers, a largest change."""

import dataclasses
from collections.abc import Collection, Hashable, Mapping
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from denograd_jax._core._constrained import Limits
from denograd_jax._frames._columns import Floats, is_integer, listed
from denograd_jax._frames._containers import column_labels
from denograd_jax._frames._problems import Problem
from denograd_jax._frames._schema import Table
from denograd_jax.errors import ColumnError, DataError, UnsupportedError

__all__ = ["Bounds", "Constraints", "cells_of", "is_real", "read_constraints"]

Bounds: TypeAlias = Mapping[Hashable, tuple[float | None, float | None]]


@dataclasses.dataclass(frozen=True)
class Constraints:
    """Limits of the numeric columns of a table, `(n,)` each.

    Attributes:
        lower: Least value, in the user's units; -inf where free.
        upper: Largest value.
        whole: Whether values are whole numbers.
        most: Largest change, in standard deviations; inf where free. Bounds go first.
    """

    lower: Floats
    upper: Floats
    whole: NDArray[np.bool_]
    most: Floats

    def limits(self, table: Table, problem: Problem) -> Limits | None:
        """The same for the arrays of a refiner, in standardised units; None where all is free."""
        if not (np.isfinite([self.lower, self.upper, self.most]).any() or self.whole.any()):
            return None
        lower, upper = self._of_cells(table, slice(None) if self._by_cell(table) else slice(1))
        parts = []
        for cells, fill in (
            ((lower - table.mean) / table.scale, -np.inf),
            ((upper - table.mean) / table.scale, np.inf),
            (-table.mean / table.scale, 0.0),
            (np.where(self.whole, 1 / table.scale, 0), 0.0),
        ):
            parts.append(problem.arrange(cells.astype(np.float32), fill))
        (lower_x, lower_y), (upper_x, upper_y), *grid = parts
        if not self.whole.any():
            return Limits(lower_x, upper_x, lower_y, upper_y)
        (origin_x, origin_y), (spacing_x, spacing_y) = grid
        return Limits(lower_x, upper_x, lower_y, upper_y, origin_x, spacing_x, origin_y, spacing_y)

    def keep(self, values: Floats, table: Table, movable: NDArray[np.bool_]) -> Floats:
        """Values `(N, n)` of the user's units that obey exactly, where they may move at all.

        In standardised single precision they obey but for rounding.
        """
        free = ~np.isfinite([self.lower, self.upper, self.most]).any(axis=0) & ~self.whole
        kept = values.copy()
        for j in np.flatnonzero(~free):
            lower, upper = self._of_cells(table, slice(None), slice(j, j + 1))
            if self.whole[j]:
                kept[:, j] = np.rint(kept[:, j])
            obeying = np.clip(kept[:, j], lower[:, 0], upper[:, 0])
            kept[:, j] = np.where(movable[:, j], obeying, values[:, j])
        return kept

    def describe(self, labels: tuple[Hashable, ...]) -> str | None:
        """In words; None where all is free."""
        words = []
        for j, label in enumerate(labels):
            low, high, most = self.lower[j], self.upper[j], self.most[j]
            parts = ["whole"] if self.whole[j] else []
            parts += [f"from {low:g}"] if np.isfinite(low) else []
            parts += [f"to {high:g}"] if np.isfinite(high) else []
            parts += [f"by at most {most:g} standard deviations"] if np.isfinite(most) else []
            if parts:
                words.append(f"{label} {' '.join(parts)}")
        return listed(words, "; ") if words else None

    def refuse_frozen(self, table: Table, movable: NDArray[np.bool_]) -> None:
        """Refuse cells that break a bound and may not move.

        Raises:
            DataError: There are such cells.
        """
        values = table.values
        broken = (values < self.lower) | (values > self.upper)
        stuck = (broken & ~movable).sum(axis=0)
        for j in np.flatnonzero(stuck):
            raise DataError(
                f"column {table.labels[j]!r} has {stuck[j]} value(s) outside of its bounds that "
                "are frozen: correct them, widen the bounds, or let them move."
            )

    def _by_cell(self, table: Table) -> bool:
        """Whether limits differ from row to row, in standardised units."""
        return len(table.mean) > 1 or bool(np.isfinite(self.most).any())

    def reach(
        self, table: Table, columns: NDArray[np.intp]
    ) -> tuple[Floats, Floats] | tuple[None, None]:
        """Least and largest value of cells by their largest change alone, `(N, k)`.

        Whole numbers need no such care: no type rounds them. None where all is free.
        """
        if not np.isfinite(self.most[columns]).any():
            return None, None
        nearest, farthest = self._reached(table, slice(None), columns)
        whole = self.whole[columns]
        return np.where(whole, -np.inf, nearest), np.where(whole, np.inf, farthest)

    def _reached(
        self, table: Table, rows: slice, columns: slice | NDArray[np.intp]
    ) -> tuple[Floats, Floats]:
        given, scale = table.values[rows, columns], table.scale[:, columns]
        most, start = np.where(np.isnan(given), np.inf, self.most[columns]), np.nan_to_num(given)
        return _farthest(start, scale, most, -1), _farthest(start, scale, most, 1)

    def _of_cells(
        self, table: Table, rows: slice, columns: slice = slice(None)
    ) -> tuple[Floats, Floats]:
        """Least and largest value of each cell, in the user's units."""
        whole = self.whole[columns]
        lower = np.where(whole, np.ceil(self.lower[columns]), self.lower[columns])
        upper = np.where(whole, np.floor(self.upper[columns]), self.upper[columns])
        start = np.nan_to_num(table.values[rows, columns])
        nearest, farthest = self._reached(table, rows, columns)
        least = np.where(whole, np.ceil(nearest), nearest)
        most = np.where(whole, np.floor(farthest), farthest)
        none = least > most  # no whole number is that near
        least, most = np.where(none, np.rint(start), least), np.where(none, np.rint(start), most)
        return np.clip(least, lower, upper), np.clip(most, lower, upper)


def _farthest(start: Floats, scale: Floats, most: Floats, sign: int) -> Floats:
    """The farthest value whose change, as it is reported, is not above `most` by rounding."""
    farthest: Floats = start + sign * most * scale
    while (beyond := np.isfinite(most) & (np.abs(farthest - start) / scale > most)).any():
        # By the spacing of the larger one: next to 0 that of `farthest` itself is endlessly small.
        step = np.spacing(np.maximum(np.abs(farthest), np.abs(start)))
        farthest = np.where(beyond, farthest - sign * step, farthest)
    return farthest


def read_constraints(
    frame: pd.DataFrame,
    table: Table,
    *,
    bounds: Bounds | None = None,
    non_negative: Any = (),
    integer: Any = (),
    max_change: Any = None,
) -> Constraints:
    """Constraints from what the user said, as `refine` takes it.

    Raises:
        ColumnError: An unknown column, or one that is not numeric.
        UnsupportedError: What is no number, or no pair of them.
    """
    labels = table.labels
    lower, upper = np.full(len(labels), -np.inf), np.full(len(labels), np.inf)
    for label, pair in _mapping(bounds, "bounds").items():
        j = _place(frame, table, label, "bounded")
        lower[j], upper[j] = _pair(label, pair)
    for label in _chosen(frame, table, non_negative, "non-negative", labels):
        j = _place(frame, table, label, "non-negative")
        lower[j] = max(lower[j], 0.0)
    integers = [label for label in labels if is_integer(frame[label])]
    whole = np.zeros(len(labels), bool)
    for label in _chosen(frame, table, integer, "integer", integers):
        whole[_place(frame, table, label, "integer")] = True
    empty = (lower > upper) | (whole & (np.ceil(lower) > np.floor(upper)))
    for j in np.flatnonzero(empty).tolist():
        kind = "whole number" if whole[j] else "value"
        raise UnsupportedError(
            f"bounds of column {labels[j]!r} leave no {kind}: from {lower[j]:g} to {upper[j]:g}."
        )
    return Constraints(lower, upper, whole, _largest_changes(frame, table, max_change))


def cells_of(
    given: Any, frame: pd.DataFrame, table: Table, role: str, *, all_named: bool
) -> Floats:
    """Numbers, 0 or more, of all cells `(1, n)`: one number, or one per column by name.

    Columns that are not named have inf, unless `all_named`, where those that may move must be, and
    of others, as `0.1 * frame.std()` has them, nothing is asked.

    Raises:
        UnsupportedError: Negative numbers, NaN, or what is no number.
        ColumnError: Unknown columns, or movable ones that are not named.
    """
    if isinstance(given, pd.Series):
        given = given.to_dict()
    if not isinstance(given, Mapping):
        return np.full((1, len(table.labels)), _nonnegative(given, role))
    cells = np.full((1, len(table.labels)), np.inf)
    for label, number in given.items():
        if all_named and not _is_movable(frame, table, label, role):
            continue
        cells[0, _place(frame, table, label, role)] = _nonnegative(number, f"{role} of {label!r}")
    if all_named:
        cells[0, ~table.movable] = 0
        for j in np.flatnonzero(np.isinf(cells[0])):
            raise ColumnError(
                f"{role} does not name column {table.labels[j]!r}: give 0 for one that is without "
                "noise, and does not move."
            )
    return cells


def _largest_changes(frame: pd.DataFrame, table: Table, max_change: Any) -> Floats:
    if max_change is None:
        return np.full(len(table.labels), np.inf)
    most: Floats = cells_of(max_change, frame, table, "max_change", all_named=False)[0]
    return most


def _chosen(
    frame: pd.DataFrame, table: Table, given: Any, role: str, of_true: Collection[Hashable]
) -> Collection[Hashable]:
    if given is True:
        return of_true
    return () if given is False else column_labels(frame, given, role)


def _is_movable(frame: pd.DataFrame, table: Table, label: Any, role: str) -> bool:
    (label,) = column_labels(frame, [label], role)
    return label in table.labels and bool(table.movable[table.labels.index(label)])


def _place(frame: pd.DataFrame, table: Table, label: Any, role: str) -> int:
    (label,) = column_labels(frame, [label], role)
    if label not in table.labels:
        raise ColumnError(f"{role} column {label!r} is not numeric, or is not seen by the model.")
    return table.labels.index(label)


def _mapping(given: Any, role: str) -> Mapping[Hashable, Any]:
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise UnsupportedError(
            f"{role} must be a mapping of columns, such as {{'price': (0, None)}}, not "
            f"{type(given).__name__}."
        )
    return given


def _pair(label: Hashable, pair: Any) -> tuple[float, float]:
    wrong = f"bounds of column {label!r} must be a pair (lower, upper) of numbers or None"
    if not isinstance(pair, tuple | list | np.ndarray) or len(pair) != 2:
        raise UnsupportedError(f"{wrong}, not {pair!r}.")
    ends = [free if end is None else end for end, free in zip(pair, (-np.inf, np.inf), strict=True)]
    for end in ends:
        if not is_real(end) or np.isnan(end):
            raise UnsupportedError(f"{wrong}, not {pair!r}.")
    return float(ends[0]), float(ends[1])


def _nonnegative(number: Any, role: str) -> float:
    if not is_real(number) or not 0 <= number < np.inf:
        told = " ".join(repr(number).split())  # of a Series in one line
        raise UnsupportedError(f"{role} must be a number, 0 or more, not {told:.80}.")
    return float(number)


def is_real(number: Any) -> bool:
    """Whether it is one real number, of Python or NumPy, and no truth value."""
    kinds = int | float | np.integer | np.floating
    return isinstance(number, kinds) and not isinstance(number, bool)
