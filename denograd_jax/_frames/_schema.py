"""What the columns of a frame are to a refinement: learnt from one frame, read off any."""

import dataclasses
from collections.abc import Collection, Hashable, Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from denograd_jax._frames._classes import Classes
from denograd_jax._frames._columns import (
    Floats,
    counts_rows,
    indicators,
    is_identifier,
    is_number,
    levels_of,
    listed,
    never_repeats,
    to_floats,
)
from denograd_jax.errors import ColumnError, DataError

__all__ = ["Scaling", "Schema", "Table", "learn_schema"]

LARGEST = 1e300
"""Differences of larger values are not safe from overflow."""

Flags = NDArray[np.bool_]


@dataclasses.dataclass(frozen=True)
class Table:
    """The numeric view of a frame.

    Attributes:
        labels: Labels of the numeric columns, in the frame's order.
        values: `(N, n)` float64 in the user's units, NaN where missing.
        movable: `(n,)` bool, False for frozen and constant columns and 0/1 indicators.
        mean: Mean of each column's observed cells, `(1, n)`, or `(N, n)` where groups are scaled
            apart.
        scale: Their standard deviation, likewise; 1 where that is 0.
        indicators: `(N, k)` float32, the one-hot coding of text, category and boolean columns.
        one_hot: Labels of a target of classes, `(N, classes)` float32, NaN where missing; None
            where the target is numeric. Their column is none of `labels`.
    """

    labels: tuple[Hashable, ...]
    values: Floats
    movable: Flags
    mean: Floats
    scale: Floats
    indicators: NDArray[np.float32]
    one_hot: NDArray[np.float32] | None = None

    def standardised(self) -> Floats:
        """`(N, n)` float64 with mean 0 and standard deviation 1, NaN where missing."""
        standardised: Floats = (self.values - self.mean) / self.scale
        return standardised

    def positions(self, labels: Collection[Hashable]) -> list[int]:
        """Where these labels stand among the numeric columns."""
        return [self.labels.index(label) for label in labels]


class Scaling(NamedTuple):
    """Mean and standard deviation of columns, of all rows or of each group.

    Attributes:
        mean: `(1, n)`, or `(groups, n)`.
        scale: Likewise; a column that is constant in a group has the scale of all its rows.
        groups: Names of the groups, or None.
    """

    mean: Floats
    scale: Floats
    groups: tuple[str, ...] | None = None

    def of_rows(self, names: NDArray[Any] | None) -> tuple[Floats, Floats]:
        """Mean and scale of each row, `(1, n)` or `(N, n)`, given the names of their groups."""
        if self.groups is None:
            return self.mean, self.scale
        assert names is not None
        codes = pd.Index(self.groups).get_indexer(pd.Index(names))
        if (codes < 0).any():
            raise DataError(
                f"group {names[codes < 0][0]!r} was not in the data that the scaling was learnt "
                "from: fit on data that has it, or scale all groups alike."
            )
        return self.mean[codes], self.scale[codes]


@dataclasses.dataclass(frozen=True)
class Schema:
    """How the columns of a frame are treated.

    Attributes:
        labels: Numeric columns that the model sees or explains, in the frame's order.
        movable: Which of them may move, `(n,)`.
        levels: For each text, category or boolean column its levels, the most frequent first.
        scaling: Of the numeric columns.
        notes: What a user should know about how columns were treated.
        step: The usual step of a series' time stamps: in seconds, or as their numbers are.
        classes: Of the target; None where that is numeric.
    """

    labels: tuple[Hashable, ...]
    movable: Flags
    levels: Mapping[Hashable, tuple[Hashable, ...]]
    scaling: Scaling
    notes: tuple[str, ...]
    step: float | None = None
    classes: Classes | None = None

    def read(self, frame: pd.DataFrame, groups: NDArray[Any] | None = None) -> Table:
        """The numeric view of a frame that has these columns.

        Args:
            frame: The data; other columns are not looked at.
            groups: Names of the rows' groups, where these are scaled apart.

        Raises:
            ColumnError: A column is missing, or is no longer numeric.
            DataError: Infinite values, a group without a scale, or an unknown class.
        """
        _refuse_other_columns(frame, self)
        values = _values(frame, self.labels)
        mean, scale = self.scaling.of_rows(groups)
        blocks = [np.zeros((len(frame), 0), np.float32)]
        blocks += [indicators(frame[label], levels) for label, levels in self.levels.items()]
        hot = np.concatenate(blocks, axis=1)
        one_hot = None if self.classes is None else self.classes.one_hot(frame)
        return Table(self.labels, values, self.movable, mean, scale, hot, one_hot)


def learn_schema(
    frame: pd.DataFrame,
    targets: Collection[Hashable],
    frozen: Collection[Hashable],
    aside: Collection[Hashable],
    groups: NDArray[Any] | None = None,
) -> Schema:
    """Sort the columns of a frame into those that move, that inform, and that stand aside.

    Numbers move, unless frozen, constant or 0/1 indicators. Text, categories and booleans inform
    the model one-hot. Dates, columns `aside` (time, groups), and, unless they are named in
    `targets` or `frozen`, columns that number the rows or are called identifiers do neither.

    Args:
        frame: The data.
        targets: Labels of the targets.
        frozen: Labels of the columns that inform and do not move.
        aside: Labels of the columns that do neither.
        groups: Names of the rows' groups, `(N,)`, to scale each apart; None to scale all alike.

    Raises:
        ColumnError: A target that is not numeric, or no column that can move.
        DataError: Infinite values, or a target without a single value.
    """
    named = {*targets, *frozen, *aside}
    unnamed = [c for c in frame.columns if c not in named]
    counters = [c for c in unnamed if counts_rows(frame[c])]
    identifiers = [c for c in unnamed if c not in counters and is_identifier(frame[c])]
    aside = {*aside, *counters, *identifiers}
    numeric = {label: is_number(frame[label]) for label in frame.columns if label not in aside}
    labels = tuple(label for label, number in numeric.items() if number)
    _refuse_text(frame, labels, targets)
    values = _values(frame, labels)
    _refuse_empty_targets(labels, values, targets)
    mean, scale = _moments(values)
    constant = scale == 0
    binary = _is_binary(values) & ~constant
    movable = ~constant & ~binary & ~np.isin(np.arange(len(labels)), _places(labels, frozen))
    if not movable.any():
        raise ColumnError(
            "no column can move: every numeric column is frozen, constant or holds only 0 and 1."
        )
    levels = {c: levels_of(frame[c]) for c, number in numeric.items() if not number}
    empty: Flags = np.all(np.isnan(values), axis=0)
    notes: dict[str, Collection[Hashable]] = {
        "constant columns are left as they are": _chosen(labels, constant & ~empty),
        "columns without values are left as they are": _chosen(labels, empty),
        "columns of 0 and 1 are taken as indicators and left as they are": _chosen(labels, binary),
        "columns that number the rows are passed through unseen (frozen= shows them)": counters,
        "columns of identifiers are passed through unseen (frozen= shows them)": identifiers,
        "whole numbers that never repeat are moved; name them in frozen= if they are identifiers": [
            c for c in _chosen(labels, movable) if c not in targets and never_repeats(frame[c])
        ],
        "columns of dates, names or other objects are passed through unseen by the model": [
            c for c, found in levels.items() if found is None
        ],
    }
    scale = np.where(constant, 1.0, scale)
    return Schema(
        labels,
        movable,
        {c: found for c, found in levels.items() if found is not None},
        Scaling(mean[None], scale[None])
        if groups is None
        else _by_group(values, mean, scale, groups),
        tuple(f"{text}: {listed(found)}" for text, found in notes.items() if found),
    )


def _by_group(values: Floats, mean: Floats, scale: Floats, groups: NDArray[Any]) -> Scaling:
    """Each group's moments; those of all rows where the group has none."""
    codes, names = pd.factorize(groups)
    rows = np.split(np.argsort(codes, kind="stable"), np.cumsum(np.bincount(codes))[:-1])
    moments = [_moments(values[members]) for members in rows]
    means, scales = (np.stack(parts) for parts in zip(*moments, strict=True))
    empty = np.stack([np.isnan(values[members]).all(axis=0) for members in rows])
    return Scaling(
        np.where(empty, mean, means), np.where(scales == 0, scale, scales), tuple(map(str, names))
    )


def _values(frame: pd.DataFrame, labels: tuple[Hashable, ...]) -> Floats:
    values = np.stack([to_floats(frame[label]) for label in labels]).T
    infinite = (np.abs(values) > LARGEST).sum(axis=0)
    if infinite.any():
        j = int(np.argmax(infinite))
        raise DataError(
            f"column {labels[j]!r} has {infinite[j]} infinite value(s), or beyond {LARGEST:g}: "
            "replace them, or leave them empty to have them treated as missing."
        )
    return values


def _refuse_other_columns(frame: pd.DataFrame, schema: Schema) -> None:
    missing = [c for c in (*schema.labels, *schema.levels) if c not in frame.columns]
    if missing:
        raise ColumnError(
            f"the data lacks column(s) that the model was fitted with: {listed(missing)}."
        )
    for label in schema.labels:
        if not is_number(frame[label]) and not frame[label].isna().all():
            raise ColumnError(
                f"column {label!r} is not numeric (its type is {frame[label].dtype}), as it was in "
                "the data that the model was fitted on."
            )


def _refuse_text(
    frame: pd.DataFrame, labels: tuple[Hashable, ...], targets: Collection[Hashable]
) -> None:
    for label in targets:
        if label not in labels:
            raise ColumnError(
                f"target column {label!r} is not numeric (its type is {frame[label].dtype}"
                f"{_no_number(frame[label])}): only numbers can be refined. Convert it, for "
                "example with .astype(float). If it holds classes, say classes=True (--classes)."
            )
    if not labels:
        raise ColumnError("no column is numeric: only numbers can be refined.")


def _no_number(column: pd.Series) -> str:
    """The first text in a column that is no number, to be named in an error."""
    for value in (value for value in column.dropna() if isinstance(value, str)):
        try:
            float(value)
        except ValueError:
            return f"; {value!r} is no number"
    return ""


def _refuse_empty_targets(
    labels: tuple[Hashable, ...], values: Floats, targets: Collection[Hashable]
) -> None:
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
