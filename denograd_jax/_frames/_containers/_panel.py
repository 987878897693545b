"""A list, tuple or dict of containers of one kind with the same columns: a panel of series."""

import dataclasses
import warnings
from collections.abc import Hashable, Sequence
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from denograd_jax._frames._columns import is_integer, is_number, listed, to_floats
from denograd_jax._frames._containers._kinds import is_container, view_container
from denograd_jax._frames._containers._labels import free_label
from denograd_jax._frames._containers._views import View
from denograd_jax._frames._writing import write_back
from denograd_jax.errors import ColumnError, DataError, ShapeError, UnsupportedError

__all__ = ["Collection", "Panel", "is_panel", "view_panel", "view_target_panel"]

Collection: TypeAlias = list[Any] | tuple[Any, ...] | dict[Any, Any]


@dataclasses.dataclass(frozen=True)
class Panel(View):
    """Several containers seen as one frame, one after the other.

    Attributes:
        label: Name of the first level of the frame's index, the series; nothing else has it.
        lengths: Rows of each series, by its position or key.
    """

    label: str
    lengths: dict[Hashable, int]


def is_panel(data: Any) -> bool:
    """Whether this is a collection with containers in it, rather than one of labels."""
    return isinstance(data, list | tuple | dict) and any(map(is_container, _members(data).values()))


def view_panel(data: Collection, role: str) -> Panel:
    """See a collection of containers as one frame, whose index has the series in front.

    Raises:
        DataError: An empty collection, an empty member, or a key that is missing.
        UnsupportedError: Members that are no containers, or of different kinds.
        ColumnError: Members with different columns, or a column of numbers in some of them only.
    """
    members = _members(data)
    _refuse_members(members, role)
    views = {key: view_container(member, f"{role}[{key!r}]") for key, member in members.items()}
    _refuse_differences(views, role)
    first = next(iter(views.values()))
    columns = first.frame.columns
    own_positions = [view.frame.columns.get_indexer(columns) for view in views.values()]
    frames = [view.frame for view in views.values()]
    label = free_label("series", {*columns, *(name for f in frames for name in f.index.names)})
    lengths = {key: len(view.frame) for key, view in views.items()}
    frame = _concatenated(frames, own_positions).set_axis(columns, axis=1)
    frame.index = _index(_series_of_rows(lengths), label, [f.index for f in frames])

    def close(refined: pd.DataFrame) -> Collection:
        parts = _with_changes(frames, frame, refined)
        closed = [view.close(part) for view, part in zip(views.values(), parts, strict=True)]
        return _collected(data, closed)

    def pick(closed: Collection, positions: int | list[int]) -> Collection:
        picked = [
            view.pick(part, own[positions].tolist())
            for view, part, own in zip(
                views.values(), _members(closed).values(), own_positions, strict=True
            )
        ]
        return _collected(closed, picked)

    indexed = all(view.indexed for view in views.values())
    return Panel("panel", frame, close, pick, indexed, first.named, label, lengths)


def view_target_panel(target: Collection, panel: Panel) -> Panel:
    """Targets given apart, one for each series of a panel.

    Raises:
        ShapeError: Not as many, of other keys, or of other lengths.
    """
    keys = list(panel.lengths)
    if isinstance(target, dict) and set(target) == set(keys):
        target = {key: target[key] for key in keys}
    if list(_members(target)) != keys:
        raise ShapeError(
            f"target has the series {listed(list(_members(target)))}, the data has {listed(keys)}: "
            "give one target for each (a list for a list, a dict for a dict)."
        )
    targets = view_panel(target, "target")
    for key, rows in targets.lengths.items():
        if rows != panel.lengths[key]:
            raise ShapeError(
                f"target[{key!r}] has {rows} rows, data[{key!r}] has {panel.lengths[key]}: they "
                "must be as many."
            )
    return targets


def _members(data: Collection) -> dict[Hashable, Any]:
    return dict(data) if isinstance(data, dict) else dict(enumerate(data))


def _collected(like: Collection, parts: Sequence[Any]) -> Collection:
    if isinstance(like, dict):
        return dict(zip(like, parts, strict=True))
    return tuple(parts) if isinstance(like, tuple) else list(parts)


def _refuse_members(members: dict[Hashable, Any], role: str) -> None:
    if not members:
        raise DataError(f"there is nothing to refine: {role} is an empty collection.")
    for key, member in members.items():
        if not is_container(member):
            raise UnsupportedError(
                f"{role}[{key!r}] must be a data frame, a series or a NumPy array, not "
                f"{type(member).__name__}: convert each, or all as one table, with np.asarray or "
                "pd.DataFrame."
            )
        if key is None or key != key:  # NaN is not equal to itself
            raise DataError(f"a series of {role} has the key {key!r}: name it.")


def _refuse_differences(views: dict[Hashable, View], role: str) -> None:
    """Members of other kinds or columns than the first, or whose columns hold other things."""
    (first_key, first), *others = views.items()
    for key, view in others:
        where, there = f"{role}[{key!r}]", f"{role}[{first_key!r}]"
        if view.kind != first.kind:
            raise UnsupportedError(
                f"{where} is a {view.kind}, {there} a {first.kind}: the series of a panel must be "
                "of one kind."
            )
        more, fewer = (
            [label for label in some if label not in set(rest)]
            for some, rest in (
                (view.frame.columns, first.frame.columns),
                (first.frame.columns, view.frame.columns),
            )
        )
        if more or fewer:
            raise ColumnError(
                f"{where} and {there} have different columns (only in the former: "
                f"{listed(more) or 'none'}; only in the latter: {listed(fewer) or 'none'}): the "
                "series of a panel must have the same."
            )
    for label in first.frame.columns:
        _refuse_mixture({f"{role}[{key!r}]": v.frame[label] for key, v in views.items()}, label)


def _refuse_mixture(columns: dict[str, pd.Series], label: Hashable) -> None:
    """A column of numbers in some members only; one without any value may be anything."""
    numbers = {where: is_number(column) for where, column in columns.items()}
    some = next((where for where, number in numbers.items() if number), None)
    for where, number in numbers.items():
        if not number and some is not None and not columns[where].isna().all():
            raise ColumnError(
                f"column {label!r} holds numbers in {some}, but not in {where} (its type is "
                f"{columns[where].dtype}): convert it, or leave it out."
            )


def _concatenated(frames: list[pd.DataFrame], own_positions: list[Any]) -> pd.DataFrame:
    """One frame, its columns numbered in the order of the first."""
    numbered = [
        frame.iloc[:, own].set_axis(range(len(own)), axis=1)
        for frame, own in zip(frames, own_positions, strict=True)
    ]
    with warnings.catch_warnings():  # of types that will count one day although all is missing
        warnings.simplefilter("ignore", FutureWarning)
        whole: pd.DataFrame = pd.concat(numbered, ignore_index=True)
        return whole


def _series_of_rows(lengths: dict[Hashable, int]) -> pd.Categorical:
    """`(N,)` the position or key of each row's series, in the collection's order."""
    codes = np.repeat(np.arange(len(lengths)), list(lengths.values()))
    return pd.Categorical.from_codes(codes, pd.Index(list(lengths), tupleize_cols=False))


def _index(series: pd.Categorical, label: str, indexes: list[pd.Index]) -> pd.MultiIndex:
    """The series, then the levels of the members' indexes; where one has fewer, they are empty."""
    depth = max(index.nlevels for index in indexes)
    levels = []
    for k in range(depth):
        first, *others = [_level(index, k) for index in indexes]
        levels.append(first.append(others))
    return pd.MultiIndex.from_arrays(
        [series, *levels], names=[label, *(level.name for level in levels)]
    )


def _level(index: pd.Index, k: int) -> pd.Index:
    if k < index.nlevels:
        return index.get_level_values(k)
    return pd.Index([None] * len(index), dtype=object)


def _with_changes(
    frames: list[pd.DataFrame], before: pd.DataFrame, after: pd.DataFrame
) -> list[pd.DataFrame]:
    """Copies of the members' frames, of their own types, with the numbers of a refined panel."""
    labels = [label for label in before.columns if is_number(before[label])]
    values = np.array([to_floats(after[label]) for label in labels]).reshape(-1, len(after)).T
    whole = [label for label in labels if is_integer(after[label])]
    ends = np.cumsum([len(frame) for frame in frames])[:-1]
    return [
        write_back(frame, labels, part, whole=whole)[0]
        for frame, part in zip(frames, np.split(values, ends), strict=True)
    ]
