"""A container read for refinement: what its columns are for, its numbers, its order in time."""

import copy
import dataclasses
from collections.abc import Hashable
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from denograd_jax import layouts
from denograd_jax._frames._classes import is_of_classes, learn_classes
from denograd_jax._frames._containers import Opened, column_labels
from denograd_jax._frames._containers._kinds import is_container
from denograd_jax._frames._folds import NO_FOLD, Folds, make_folds
from denograd_jax._frames._problems import Problem, pose_rows, pose_series
from denograd_jax._frames._schema import Schema, Table, learn_schema
from denograd_jax._frames._timeline import (
    Irregular,
    Timeline,
    group_names,
    read_timeline,
    usual_step,
)
from denograd_jax.errors import ColumnError, UnsupportedError
from denograd_jax.layouts import Windows

__all__ = ["Design", "Reading", "Scale", "learn", "own", "read", "read_design"]

Scale: TypeAlias = Literal["all", "group"]


@dataclasses.dataclass(frozen=True)
class Design:
    """What the user said of the data: which column is what, and how it lies in time.

    Attributes:
        targets: Labels of the targets, as in `Opened.frame`.
        apart: Whether they were given beside the data.
        time: Column or level of time stamps, or None.
        groups: Columns or levels that tell the series of a panel apart.
        frozen: Columns that inform the model but do not move.
        layout: Windows of a series; None for rows.
        irregular: What to do where time steps are uneven.
        scale: Whether columns are scaled over all rows or in each group.
        folds: Of the rows, for a backbone that is trained once without each; None for one model.
        classes: Whether the target is of classes.
    """

    targets: tuple[Hashable, ...]
    apart: bool
    time: Hashable | None
    groups: tuple[Hashable, ...]
    frozen: tuple[Hashable, ...]
    layout: Windows | None
    irregular: Irregular | None
    scale: Scale
    folds: Folds | None = None
    classes: bool = False


class Reading(NamedTuple):
    """The data as given, as numbers, and in time."""

    opened: Opened
    design: Design
    table: Table
    timeline: Timeline | None
    groups: NDArray[Any] | None

    def misses_targets(self) -> bool:
        """Whether any value is missing that a model would be asked to predict."""
        targets = self.table.positions(self.design.targets) or self.table.movable
        return bool(np.isnan(self.table.values[:, targets]).any())

    def pose(
        self,
        movable: NDArray[np.bool_],
        *,
        labels: NDArray[np.bool_] | None = None,
        front: int | None = None,
    ) -> Problem:
        """The arrays to refine, of which these cells `(N, n)` may move; see `pose_series`.

        `labels` are the rows, `(N,)`, whose labels of classes may move too.
        """
        if self.timeline is None or self.design.layout is None:
            return pose_rows(self.table, self.design.targets, movable, labels)
        return pose_series(
            self.table,
            self.design.targets,
            movable,
            self.timeline,
            self.design.layout,
            apart=self.design.apart,
            front=front,
        )


def own(data: Any) -> Any:
    """A copy of containers, so that the record of what was given outlives what is done to them."""
    if isinstance(data, dict):
        return {key: own(member) for key, member in data.items()}
    if isinstance(data, list | tuple) and any(map(is_container, data)):
        members = [own(member) for member in data]
        return tuple(members) if isinstance(data, tuple) else members
    if isinstance(data, np.ndarray):
        return data.copy()
    return copy.deepcopy(data) if is_container(data) else data


def read_design(
    opened: Opened,
    *,
    time: Any,
    groups: Any,
    frozen: Any,
    window: int | None,
    horizon: int,
    stride: int,
    irregular: Irregular | None,
    scale: Scale,
    folds: int | None = None,
    classes: bool | None = None,
) -> Design:
    """Check what the user said of the data against its columns.

    Raises:
        ColumnError: Unknown columns, or one with two roles.
        UnsupportedError: Words that stand for nothing, or options of a series without a window.
    """
    frame = opened.frame
    stamps = column_labels(frame, time, "time", levels=True)
    if len(stamps) > 1:
        raise ColumnError(f"time must be one column, not {len(stamps)}: {list(stamps)}.")
    series = () if opened.series is None else (opened.series,)
    apart = (*series, *column_labels(frame, groups, "group", levels=True))
    roles = (*opened.targets, *apart, *stamps)
    for label in roles:
        if roles.count(label) > 1:
            raise ColumnError(f"column {label!r} can be only one of these: target, time, or group.")
    if irregular is not None and not (isinstance(irregular, str) and irregular == "segment"):
        raise UnsupportedError(f'irregular must be "segment" or None, not {irregular!r}.')
    if not isinstance(scale, str) or scale not in ("all", "group"):
        raise UnsupportedError(f'scale must be "all" or "group", not {scale!r}.')
    if scale == "group" and not apart:
        raise UnsupportedError('scale="group" needs groups=, or a list of series.')
    if irregular is not None and not stamps:
        raise UnsupportedError("irregular is about time stamps: name their column, time=.")
    if window is None and (horizon, stride, irregular) != (1, 1, None):
        raise UnsupportedError(
            "horizon, stride and irregular are for a series: give window= as well."
        )
    return Design(
        opened.targets,
        opened.apart,
        stamps[0] if stamps else None,
        apart,
        column_labels(frame, frozen, "frozen"),
        None if window is None else layouts.windows(window, horizon, stride),
        irregular,
        scale,
        make_folds(folds, len(frame), series=window is not None),
        is_of_classes(frame, opened.targets, classes, series=window is not None),
    )


def learn(opened: Opened, design: Design) -> Schema:
    """What the columns are, and their scaling, from this data."""
    aside = design.groups if design.time is None else (*design.groups, design.time)
    frame = opened.frame
    names = group_names(frame, design.groups) if design.scale == "group" else None
    if design.classes:
        (label,) = design.targets
        classes = learn_classes(frame, label)
        schema = learn_schema(frame, (), design.frozen, (*aside, label), names)
        return dataclasses.replace(schema, classes=classes, notes=schema.notes + classes.notes)
    schema = learn_schema(frame, design.targets, design.frozen, aside, names)
    if design.layout is None or design.time is None:
        return schema
    return dataclasses.replace(schema, step=usual_step(frame, design.time, design.groups))


def read(schema: Schema, opened: Opened, design: Design, *, partial: bool = False) -> Reading:
    """The numbers of data with the columns of this schema, and its order in time.

    Args:
        schema: What the columns are.
        opened: The data.
        design: What the user said of it.
        partial: Whether these are a few rows of a series that is still coming in.

    Raises:
        DenogradError: For data that lacks columns, or whose values or times cannot be used.
    """
    for label in design.groups:
        column_labels(opened.frame, [label], "group", levels=True)
    if design.time is not None:
        column_labels(opened.frame, [design.time], "time", levels=True)
    names = group_names(opened.frame, design.groups)
    table = schema.read(opened.frame, names)
    timeline = None
    if design.layout is not None:
        timeline = read_timeline(
            opened.frame,
            design.time,
            design.groups,
            design.irregular,
            schema.step,
            partial=partial,
        )
    if design.folds is not None:
        order = None if timeline is None else timeline.order
        of_rows = design.folds.of(table.values, order)
        table = _with_folds(table, np.full_like(of_rows, NO_FOLD) if partial else of_rows)
    return Reading(opened, design, table, timeline, names)


def _with_folds(table: Table, folds: NDArray[np.intp]) -> Table:
    """The table with the fold of each row, `(N,)`, as the last number that models see."""
    column = folds[:, None].astype(np.float32)
    return dataclasses.replace(table, indicators=np.concatenate([table.indicators, column], axis=1))
