"""A user's data and target as one frame, and the way back for each of them."""

import dataclasses
from collections.abc import Hashable
from typing import Any

import pandas as pd

from denograd_jax._frames._containers._kinds import is_container, view_container
from denograd_jax._frames._containers._labels import column_labels, flat, free_label
from denograd_jax._frames._containers._panel import Panel, is_panel, view_panel, view_target_panel
from denograd_jax._frames._containers._views import Close, View
from denograd_jax.errors import DataError, ShapeError, UnsupportedError

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
        series: Of a panel, the label of a column of `frame`, its last, that says which series each
            row belongs to: its position in the list, or its key in the dict. Else None.
        given: Data and target themselves.
    """

    frame: pd.DataFrame
    targets: tuple[Hashable, ...]
    apart: bool
    close: Close
    close_target: Close
    series: Hashable | None = None
    given: tuple[Any, Any] = (None, None)


def open_container(data: Any, target: Any = None) -> Opened:
    """See a container, with or without its target, as one frame.

    Args:
        data: pandas DataFrame or Series; array `(N, d)` or `(N,)`; polars DataFrame or Series;
            xarray Dataset whose variables lie along one dimension, or DataArray of one or two
            dimensions, the rows along that of dates, else "time", else the first; or a panel: a
            list, tuple or dict of such containers, of one kind and with the same columns.
        target: None; label(s) of columns of `data` (numbers for an array, variables for a Dataset);
            or a container of as many rows as `data`, kept apart from it, for a panel a list or dict
            of them.

    Raises:
        UnsupportedError: Another kind of container, or what is no label.
        ShapeError: Other than one or two axes, or targets of another length.
        ColumnError: Unknown, repeated or missing labels; a panel whose columns differ.
        DataError: No rows, or a target with another index.
    """
    collection = isinstance(data, list | tuple | dict)
    view = view_panel(data, "data") if collection else view_container(data, "data")
    beside = _view_target(target, view)
    opened = _with_labels(view, target) if beside is None else _with_target(view, beside)
    opened = dataclasses.replace(opened, given=(data, target))
    return _with_series(opened, view) if isinstance(view, Panel) else opened


def _view_target(target: Any, view: View) -> View | None:
    """A target given apart, or None for labels."""
    if isinstance(view, Panel):
        if is_container(target):
            raise UnsupportedError(
                f"the data is a panel of {len(view.lengths)} series, the target a "
                f"{type(target).__name__}: give a list or dict of as many."
            )
        return view_target_panel(target, view) if is_panel(target) else None
    return view_container(target, "target") if is_container(target) else None


def _with_labels(view: View, target: Any) -> Opened:
    """The target is among the columns."""
    labels = column_labels(view.frame, target, "target")
    known: list[Hashable] = list(view.frame.columns)
    positions = [known.index(label) for label in labels]
    one = len(labels) == 1 and labels[0] is target  # else the label came in a collection

    def close_target(refined: pd.DataFrame) -> Any:
        return view.pick(view.close(refined), positions[0] if one else positions)

    return Opened(view.frame, labels, False, view.close, close_target if labels else _nothing)


def _nothing(refined: pd.DataFrame) -> None:
    """There is no target."""


def _with_target(view: View, beside: View) -> Opened:
    """Put a target that was given apart beside the data, under labels that nothing else has."""
    frame = view.frame
    if len(beside.frame) != len(frame):
        raise ShapeError(
            f"target has {len(beside.frame)} rows, the data has {len(frame)}: they must be as many "
            "(a list is taken for the labels of columns)."
        )
    if view.indexed and beside.indexed:
        _refuse_other_index(frame.index, beside.frame.index)
    labels = _free_labels(frame.columns, beside)
    both = pd.concat([frame, beside.frame.set_axis(frame.index, axis=0)], axis=1)
    both.columns = flat([*frame.columns, *labels])
    both.attrs = frame.attrs

    def close(refined: pd.DataFrame) -> Any:
        return view.close(_part(refined, 0, frame))

    def close_target(refined: pd.DataFrame) -> Any:
        return beside.close(_part(refined, frame.shape[1], beside.frame))

    return Opened(both, labels, True, close, close_target)


def _with_series(opened: Opened, panel: Panel) -> Opened:
    """Say in a column of its own which series a row belongs to."""
    label = free_label(panel.label, set(opened.frame.columns))
    series = opened.frame.index.get_level_values(0).to_series(index=opened.frame.index)
    frame = pd.concat([opened.frame, series], axis=1)
    frame.columns = flat([*opened.frame.columns, label])
    return dataclasses.replace(
        opened,
        frame=frame,
        close=lambda refined: opened.close(_part(refined, 0, opened.frame)),
        close_target=lambda refined: opened.close_target(_part(refined, 0, opened.frame)),
        series=label,
    )


def _part(refined: pd.DataFrame, first: int, like: pd.DataFrame) -> pd.DataFrame:
    """Some columns of a frame, with the labels and attributes of those that they came from."""
    part = refined.iloc[:, first : first + like.shape[1]]
    part = part.set_axis(like.columns, axis=1).set_axis(like.index, axis=0)
    part.attrs = like.attrs
    return part


def _refuse_other_index(index: pd.Index, other: pd.Index) -> None:
    if not index.equals(other):
        raise DataError(
            "target and data have different indexes, so that it is not clear which rows belong "
            "together: align them, for example with target.loc[data.index], or pass "
            "target.to_numpy() if the rows are in the same order."
        )


def _free_labels(columns: pd.Index, beside: View) -> tuple[Hashable, ...]:
    """The target's own names where it has any that the data does not use; else "target"."""
    taken = set(columns)
    free: list[Hashable] = []
    for own in beside.frame.columns:
        label: Hashable = own
        if not beside.named:
            label = "target" if beside.frame.shape[1] == 1 else f"target {own}"
        elif own in taken:
            label = f"target {own}"
        if label in taken:
            label = free_label(str(label), taken)
        taken.add(label)
        free.append(label)
    return tuple(free)
