"""Frames and arrays in, the same kind out: every container is seen as one data frame."""

import dataclasses
from collections.abc import Callable, Hashable
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from denograd_jax.errors import ColumnError, DataError, ShapeError, UnsupportedError

__all__ = ["Opened", "column_labels", "column_or_level", "open_container"]

Close: TypeAlias = Callable[[pd.DataFrame], Any]


@dataclasses.dataclass(frozen=True)
class Opened:
    """A container seen as a frame.

    Attributes:
        frame: The data; shares no memory that is ever written to.
        targets: Labels of the target columns in `frame`; empty for none.
        apart: Whether the target was given beside the data.
        close: Puts a refined frame back into the caller's kind of container.
        close_target: The target of a refined frame, in the kind in which it was given.
    """

    frame: pd.DataFrame
    targets: tuple[Hashable, ...]
    apart: bool
    close: Close
    close_target: Close


def open_container(data: Any, target: Any = None) -> Opened:
    """See a DataFrame, Series or NumPy array, with or without its target, as one frame.

    Args:
        data: DataFrame; Series; array `(N, d)` or `(N,)`.
        target: None; label(s) of columns of `data` (column numbers for an array); or an array or
            Series or DataFrame of as many rows as `data`, kept apart from it.

    Raises:
        UnsupportedError: Another kind of container, or what is no label.
        ShapeError: Arrays of other than one or two axes, or targets of another length.
        ColumnError: Unknown, repeated or missing labels.
        DataError: No rows, or a target with another index.
    """
    frame, close = _as_frame(data, "data")
    _refuse_empty(frame)
    _refuse_labels(frame.columns)
    if isinstance(target, np.ndarray | pd.Series | pd.DataFrame):
        return _with_target(data, frame, close, target)
    labels = column_labels(frame, target, "target")

    def close_target(refined: pd.DataFrame) -> Any:
        if not labels:
            return None
        chosen = refined[labels[0] if labels == (target,) else list(labels)]
        return chosen.to_numpy() if isinstance(data, np.ndarray) else chosen

    return Opened(frame, labels, False, close, close_target)


def column_labels(
    frame: pd.DataFrame, given: Any, role: str, *, levels: bool = False
) -> tuple[Hashable, ...]:
    """One label, or several, or None, as a tuple of labels that the frame has.

    Args:
        frame: Has the columns.
        given: A label, a collection of labels, or None.
        role: What the columns are for, to be named in errors.
        levels: Whether a named level of the index will do as well.
    """
    if given is None:
        return ()
    known: list[Hashable] = list(frame.columns)
    if levels:
        known += [name for name in frame.index.names if name is not None and name not in known]
    one_label = isinstance(given, tuple) and given in known  # as of several levels
    several = isinstance(given, list | tuple | set | frozenset | np.ndarray | pd.Index | pd.Series)
    labels = list(given) if several and not one_label else [given]
    hint = ""
    if role == "target" and not all(isinstance(label, str) for label in labels):
        hint = "; the values of a target go in a NumPy array, Series or DataFrame"
    elif levels and None in frame.index.names and not isinstance(frame.index, pd.RangeIndex):
        hint = "; an index without a name must be given one first, as by frame.rename_axis('time')"
    _refuse_unknown(labels, known, role, hint)
    if len(set(labels)) < len(labels):
        raise ColumnError(f"{role} names a column twice: {labels}")
    return tuple(sorted(labels, key=known.index) if isinstance(given, set | frozenset) else labels)


def _refuse_unknown(labels: list[Any], known: list[Hashable], role: str, hint: str) -> None:
    known_labels = set(known)
    for label in labels:
        try:
            unknown = label not in known_labels
        except TypeError as error:
            raise UnsupportedError(
                f"{role} must be a column's label or a list of labels, not "
                f"{type(label).__name__}{hint}."
            ) from error
        if unknown:
            more = f" and {len(known) - 30} more" if len(known) > 30 else ""
            raise ColumnError(
                f"{role} column {label!r} is not in the data; it has: "
                f"{', '.join(map(repr, known[:30]))}{more}{hint}."
            )


def column_or_level(frame: pd.DataFrame, label: Hashable) -> pd.Series:
    """A column, or a named level of the index, numbered from 0."""
    if label in frame.columns:
        return frame[label].reset_index(drop=True)
    level = frame.index.get_level_values(frame.index.names.index(label))
    return level.to_series(index=pd.RangeIndex(len(frame)))


def _as_frame(data: Any, role: str) -> tuple[pd.DataFrame, Close]:
    if isinstance(data, pd.DataFrame):
        return data, lambda refined: refined
    if isinstance(data, pd.Series):
        name = "value" if data.name is None else data.name
        frame = data.to_frame().set_axis(pd.Index([name], tupleize_cols=False), axis=1)
        return frame, lambda refined: refined[name].rename(data.name)
    if isinstance(data, np.ndarray):
        _refuse_array(data, role)
        frame = pd.DataFrame(data.reshape(len(data), 1 if data.ndim == 1 else -1).copy())
        return frame, lambda refined: refined.to_numpy().reshape(data.shape)
    raise UnsupportedError(
        f"{role} must be a pandas DataFrame or Series or a NumPy array, not "
        f"{type(data).__name__}: convert it first, for example with np.asarray or .to_pandas()."
    )


def _refuse_array(array: np.ndarray, role: str) -> None:
    if isinstance(array, np.ma.MaskedArray):
        raise UnsupportedError(
            f"{role} is a masked array: mark what is missing by NaN, with .filled(np.nan)."
        )
    if array.dtype.names is not None:
        raise UnsupportedError(f"{role} is a structured array: pass pd.DataFrame(array).")
    if array.ndim not in (1, 2):
        raise ShapeError(f"{role} must have shape (rows, columns) or (rows,), not {array.shape}.")
    if array.size == 0:
        raise DataError(f"there is nothing to refine: {role} has shape {array.shape}.")


def _refuse_empty(frame: pd.DataFrame) -> None:
    if 0 in frame.shape:
        raise DataError(
            f"there is nothing to refine: the data has {frame.shape[0]} rows and {frame.shape[1]} "
            "columns."
        )


def _refuse_labels(columns: pd.Index) -> None:
    repeated = columns[columns.duplicated()]
    if len(repeated):
        raise ColumnError(f"column {repeated[0]!r} occurs more than once: rename the columns.")
    if columns.nlevels == 1 and columns.hasnans:
        raise ColumnError("a column has no name (its label is None or NaN): name the columns.")


def _with_target(data: Any, frame: pd.DataFrame, close: Close, target: Any) -> Opened:
    """Put a target that was given apart beside the data, under labels that nothing else has."""
    beside, close_target = _as_frame(target, "target")
    _refuse_labels(beside.columns)
    if len(beside) != len(frame):
        raise ShapeError(
            f"target has {len(beside)} rows, the data has {len(frame)}: they must be as many (a "
            "list is taken for the labels of columns)."
        )
    if not isinstance(data, np.ndarray) and not isinstance(target, np.ndarray):
        _refuse_other_index(frame.index, beside.index)
    labels = _free_labels(frame.columns, target, beside.columns)
    whole = pd.concat([frame, beside.set_axis(frame.index, axis=0)], axis=1)
    whole.columns = pd.Index([*frame.columns, *labels], dtype=object, tupleize_cols=False)
    whole.attrs = frame.attrs
    width = frame.shape[1]

    def close_data(refined: pd.DataFrame) -> Any:
        return close(refined.iloc[:, :width].set_axis(frame.columns, axis=1))

    def close_beside(refined: pd.DataFrame) -> Any:
        part = refined.iloc[:, width:].set_axis(beside.columns, axis=1)
        part.attrs = beside.attrs
        return close_target(part.set_axis(beside.index, axis=0))

    return Opened(whole, labels, True, close_data, close_beside)


def _refuse_other_index(index: pd.Index, other: pd.Index) -> None:
    if not index.equals(other):
        raise DataError(
            "target and data have different indexes, so that it is not clear which rows belong "
            "together: align them, for example with target.loc[data.index], or pass "
            "target.to_numpy() if the rows are in the same order."
        )


def _free_labels(columns: pd.Index, target: Any, labels: pd.Index) -> tuple[Hashable, ...]:
    """The target's own names where it has any that the data does not use; else "target"."""
    named = isinstance(target, pd.DataFrame) or getattr(target, "name", None) is not None
    taken = set(columns)
    free: list[Hashable] = []
    for label in labels:
        if not named:
            label = "target" if len(labels) == 1 else f"target {label}"
        elif label in taken:
            label = f"target {label}"
        while label in taken:
            label = f"{label}'"
        taken.add(label)
        free.append(label)
    return tuple(free)
