"""Frames and arrays in, the same kind out: every container is seen as one data frame."""

import dataclasses
from collections.abc import Callable, Hashable
from typing import Any

import numpy as np
import pandas as pd

from denograd_jax.errors import ColumnError, DataError, ShapeError, UnsupportedError

__all__ = ["Opened", "open_container"]


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
    close: Callable[[pd.DataFrame], Any]
    close_target: Callable[[pd.DataFrame], Any]


def open_container(data: Any, target: Any = None) -> Opened:
    """See a DataFrame, Series or NumPy array, with or without its target, as one frame.

    Args:
        data: DataFrame; Series; array `(N, d)` or `(N,)`.
        target: None; label(s) of columns of `data` (column numbers for an array); or an array or
            Series or DataFrame of as many rows as `data`, kept apart from it.

    Raises:
        UnsupportedError: Another kind of container.
        ShapeError: Arrays of other than one or two axes, or targets of another length.
        ColumnError: Unknown or repeated labels.
        DataError: No rows.
    """
    frame, close = _as_frame(data)
    if frame.shape[0] == 0 or frame.shape[1] == 0:
        raise DataError(
            f"there is nothing to refine: the data has {frame.shape[0]} rows and {frame.shape[1]} "
            "columns."
        )
    repeated = frame.columns[frame.columns.duplicated()]
    if len(repeated):
        raise ColumnError(f"column {repeated[0]!r} occurs more than once: rename the columns.")
    if isinstance(target, np.ndarray | pd.Series | pd.DataFrame):
        return _with_target(frame, close, target)
    labels = column_labels(frame, target, "target")
    return Opened(frame, labels, False, close, lambda refined: _select(refined, target, labels))


def column_labels(frame: pd.DataFrame, given: Any, role: str) -> tuple[Hashable, ...]:
    """One label, or a list of them, or None, as a tuple of labels that the frame has."""
    if given is None:
        return ()
    several = isinstance(given, list | tuple | set | frozenset | np.ndarray | pd.Index)
    if isinstance(given, tuple) and given in frame.columns:  # a label of several levels
        several = False
    labels = tuple(given) if several else (given,)
    for label in labels:
        if label not in frame.columns:
            names = ", ".join(map(str, frame.columns[:30]))
            raise ColumnError(f"{role} column {label!r} is not in the data; it has: {names}")
    if len(set(labels)) < len(labels):
        raise ColumnError(f"{role} names a column twice: {list(labels)}")
    return labels


def _as_frame(data: Any) -> tuple[pd.DataFrame, Callable[[pd.DataFrame], Any]]:
    if isinstance(data, pd.DataFrame):
        return data, lambda refined: refined
    if isinstance(data, pd.Series):
        name = "value" if data.name is None else data.name
        return data.to_frame(name), lambda refined: refined[name].rename(data.name)
    if isinstance(data, np.ndarray):
        if data.ndim not in (1, 2):
            raise ShapeError(f"data must have shape (rows, columns) or (rows,), not {data.shape}.")
        frame = pd.DataFrame(data.reshape(len(data), -1).copy())
        return frame, lambda refined: _to_array(refined).reshape(data.shape)
    raise UnsupportedError(
        f"data must be a pandas DataFrame or Series or a NumPy array, not {type(data).__name__}: "
        "convert it first, for example with np.asarray or .to_pandas()."
    )


def _with_target(frame: pd.DataFrame, close: Callable[[pd.DataFrame], Any], target: Any) -> Opened:
    """Put a target that was given apart beside the data, under labels that nothing else has."""
    if target.shape[0] != len(frame):
        raise ShapeError(f"target has {target.shape[0]} rows, the data has {len(frame)}.")
    beside, close_target = _as_frame(target)
    labels = tuple(("target", label) for label in beside.columns)
    columns = pd.Index([*frame.columns, *labels], dtype=object, tupleize_cols=False)
    whole = pd.concat([frame, beside.set_axis(frame.index, axis=0)], axis=1)
    whole.columns = columns
    original, index = frame.columns, beside.index
    return Opened(
        whole,
        labels,
        True,
        lambda refined: close(refined.iloc[:, : len(original)].set_axis(original, axis=1)),
        lambda refined: close_target(
            refined.iloc[:, len(original) :]
            .set_axis(beside.columns, axis=1)
            .set_axis(index, axis=0)
        ),
    )


def _to_array(frame: pd.DataFrame) -> np.ndarray:
    """All columns in one array: refined integer columns make it floating."""
    return frame.to_numpy()


def _select(frame: pd.DataFrame, target: Any, labels: tuple[Hashable, ...]) -> Any:
    """A column for a label, columns for a list of labels, nothing for none."""
    if not labels:
        return None
    return frame[labels[0]] if labels == (target,) else frame[list(labels)]
