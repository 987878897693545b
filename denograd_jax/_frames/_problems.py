"""A numeric table posed as a refinement: what is input, what is target, and what may move."""

import dataclasses
from collections.abc import Collection, Hashable
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from denograd_jax import layouts
from denograd_jax._frames._schema import Table
from denograd_jax._frames._timeline import Timeline
from denograd_jax.errors import ColumnError, ShapeError
from denograd_jax.layouts import Rows, Windows

__all__ = ["Problem", "pose_rows", "pose_series"]

Floats: TypeAlias = NDArray[np.float64]
Flags: TypeAlias = NDArray[np.bool_]


@dataclasses.dataclass(frozen=True)
class Problem:
    """Arrays for `Refiner.init`, in standardised units, and where their cells came from.

    The arrays are padded with missing rows, which change nothing: at the end (of a causal one in
    front) to a length of few significant bits, so that data of about as many rows share one
    compilation; and behind each series of a panel to whole strides, so that windows begin where
    they would in that series alone.

    Attributes:
        layout: Rows, or windows.
        x: `(M, d)` float32 in working order: the numeric `inputs`, then the indicators.
        y: `(M, q)` float32, or None where the targets are columns of x. Of classes the one-hot
            labels, `(M, classes)`.
        movable_x: Its shape, bool.
        movable_y: Its shape, bool, or None.
        segments: `(M,)` int32, or None.
        inputs: Positions in the table of the numeric columns of x.
        targets: Positions in the table of the targets; none of classes.
        order: `(M,)` row of the table at each working position; -1 for padding.
        rows: Number N of the table's rows.
    """

    layout: Rows | Windows
    x: NDArray[np.float32]
    y: NDArray[np.float32] | None
    movable_x: NDArray[np.bool_]
    movable_y: NDArray[np.bool_] | None
    segments: NDArray[np.int32] | None
    inputs: list[int]
    targets: list[int]
    order: NDArray[np.intp]
    rows: int

    @property
    def kind(self) -> str:
        """Either "rows" or "series"."""
        return "rows" if isinstance(self.layout, Rows) else "series"

    @property
    def outputs(self) -> int:
        """How many numbers a model gives for an instance."""
        return len(self.targets) if self.y is None else int(self.y.shape[1])

    @property
    def arrays(self) -> tuple[NDArray[Any] | None, ...]:
        """Positional arguments of `Refiner.init`."""
        return self.x, self.y, None, None, self.movable_x, self.movable_y, self.segments

    @property
    def instance_shape(self) -> tuple[int, ...]:
        """`(d,)`, or `(length, d)`."""
        width = self.x.shape[1]
        return (width,) if isinstance(self.layout, Rows) else (self.layout.length, width)

    def arrange(self, cells: NDArray[Any], fill: Any) -> tuple[NDArray[Any], NDArray[Any] | None]:
        """Cells of the table `(N, n)` or `(1, n)` as arrays that broadcast to x and y.

        `fill` stands for indicators and padding; labels of classes are no cells.
        """
        indicators = self.x.shape[1] - len(self.inputs)
        order = np.zeros(1, np.intp) if len(cells) == 1 else self.order
        x = _arranged(cells, self.inputs, order, fill, indicators)
        cells_of_y = self.y is not None and bool(self.targets)
        return x, _arranged(cells, self.targets, order, fill, 0) if cells_of_y else None

    def to_table(self, x: NDArray[Any], y: NDArray[Any] | None, columns: int) -> Floats:
        """Arrays shaped as x and y, as `(N, columns)` in the table's rows and columns.

        Labels of classes are left out.
        """
        table = np.zeros((self.rows, columns))
        real = self.order >= 0
        rows = self.order[real][:, None]
        table[rows, self.inputs] = x[real, : len(self.inputs)]
        if y is not None and self.targets:
            table[rows, self.targets] = y[real]
        return table

    def to_rows(self, residual: Floats) -> Floats:
        """Numbers of instances `(instances, q)` at the rows of their targets: `(N, q)`, or NaN."""
        found = np.full((self.rows, residual.shape[1]), np.nan)
        rows = self._target_rows(len(residual))
        found[rows[rows >= 0]] = residual[rows >= 0]
        return found

    def say(
        self, gate: NDArray[Any], valid: NDArray[np.bool_], columns: int
    ) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        """What instances had to say of each cell of the table.

        Args:
            gate: Mean weight of each instance's moves, `(instances,)`.
            valid: Which instances there are, `(instances,)`.
            columns: Number n of the table's columns.

        Returns:
            Mean gate of the valid instances that each cell belongs to, and how many of them moved,
            both `(N, n)`.
        """
        weight = np.where(valid, gate, 0.0)
        sums = [self._spread(v) for v in (weight, valid, valid & (gate > 0))]
        total, count, moved = (self.to_table(*parts, columns) for parts in sums)
        return (total / np.maximum(count, 1)).astype(np.float32), moved.astype(np.int32)

    def _spread(self, of_instance: NDArray[Any]) -> tuple[Floats, Floats | None]:
        """The sum over the instances that each cell of x and y belongs to."""
        values = of_instance.astype(np.float64)
        inputs, targets = values, values
        if isinstance(self.layout, Windows):
            inputs, targets = np.zeros((2, len(self.order)))
            first = np.arange(len(values)) * self.layout.stride
            targets[first + self.layout.span - 1] = values
            starts = np.zeros(len(self.order) + 1)
            starts[first] = values
            ends = np.zeros_like(starts)
            ends[first + self.layout.length] = values
            inputs = np.cumsum(starts - ends)[:-1]
        x = np.repeat(inputs[:, None], len(self.inputs), axis=1)
        if self.y is not None:
            return x, np.repeat(targets[:, None], len(self.targets), axis=1)
        x[:, [self.inputs.index(j) for j in self.targets]] += targets[:, None]
        return x, None

    def _target_rows(self, instances: int) -> NDArray[np.intp]:
        """Row of the table that holds each instance's target; -1 for padding."""
        if isinstance(self.layout, Rows):
            return self.order
        first = self.layout.span - 1
        return self.order[first + np.arange(instances) * self.layout.stride]


def pose_rows(
    table: Table, targets: Collection[Hashable], movable: Flags, labels: Flags | None = None
) -> Problem:
    """Every row explains its target(s), or its class, by its other columns.

    Args:
        table: The numbers.
        targets: Labels of the targets.
        movable: Which cells may move, `(N, n)`.
        labels: Which rows' labels of classes may move, `(N,)`; none unless given.

    Raises:
        ColumnError: No target, or nothing but targets.
    """
    if not targets:
        raise ColumnError(
            "rows need a target: name the column that the others explain with target=, or give "
            "window= if the rows are a time series."
        )
    y = [] if table.one_hot is not None else table.positions(targets)
    inputs = [j for j in range(len(table.labels)) if j not in y]
    if not inputs and not table.indicators.shape[1]:
        raise ColumnError("there is no column besides the target for a model to learn from.")
    rows = len(table.values)
    order = np.pad(np.arange(rows), (0, _whole_length(rows) - rows), constant_values=-1)
    posed = _pose(table, layouts.rows(), inputs, y, movable, order, None, apart=True)
    return posed if table.one_hot is None else _with_classes(posed, table.one_hot, labels)


def _with_classes(posed: Problem, one_hot: NDArray[np.float32], labels: Flags | None) -> Problem:
    """The problem whose target are the labels."""
    columns = list(range(one_hot.shape[1]))
    moving = np.zeros(posed.rows, bool) if labels is None else labels
    return dataclasses.replace(
        posed,
        y=_arranged(one_hot, columns, posed.order, np.nan, 0),
        movable_y=_arranged(
            np.broadcast_to(moving[:, None], one_hot.shape), columns, posed.order, False, 0
        ),
    )


def pose_series(
    table: Table,
    targets: Collection[Hashable],
    movable: Flags,
    timeline: Timeline,
    layout: Windows,
    *,
    apart: bool,
    front: int | None = None,
) -> Problem:
    """Every window explains its target(s); without any, all movable columns of its target step.

    Args:
        table: The numbers.
        targets: Labels of the targets.
        movable: Which cells may move, `(N, n)`.
        timeline: Order and segments of the rows.
        layout: Windows, without target columns.
        apart: Whether the targets are no inputs.
        front: Whether the padding stands in front, where it is no later step; and how many steps
            there shall be with it at least, of a series that is still coming in.

    Raises:
        ShapeError: No window fits between the gaps and group borders.
    """
    order, segments = _aligned(timeline.order, timeline.segments, layout.stride, front)
    if not front:
        _refuse_borders(timeline.segments, layout)
    y = table.positions(targets) if targets else np.flatnonzero(table.movable).tolist()
    inputs = [j for j in range(len(table.labels)) if not (apart and j in y)]
    if not apart:
        layout = dataclasses.replace(layout, target_columns=tuple(inputs.index(j) for j in y))
    return _pose(table, layout, inputs, y, movable, order, segments, apart=apart)


def _refuse_borders(segments: NDArray[np.int32], layout: Windows) -> None:
    longest = int(np.bincount(segments).max())
    if longest < layout.span <= len(segments):
        raise ShapeError(
            f"no window fits: a window of {layout.length} and a horizon of {layout.horizon} need "
            f"{layout.span} steps, the longest stretch between gaps and group borders has "
            f"{longest}. Use a shorter window, or leave out time= to take the rows as evenly "
            "spaced."
        )
    if len(segments) < layout.span:
        raise ShapeError(
            f"no window fits: {len(segments)} steps, but a window of {layout.length} and a horizon "
            f"of {layout.horizon} need at least {layout.span}."
        )


def _aligned(
    order: NDArray[np.intp], segments: NDArray[np.int32], stride: int, front: int | None
) -> tuple[NDArray[np.intp], NDArray[np.int32]]:
    """Each segment padded to whole strides, and all to a length that others share."""
    lengths = np.bincount(segments)
    first = np.cumsum(lengths) - lengths
    padded = -(-lengths // stride) * stride if len(lengths) > 1 else lengths
    begins = np.cumsum(padded) - padded
    places = np.arange(len(order)) - first[segments] + begins[segments]
    positions = np.full(int(padded.sum()), -1, np.intp)
    positions[places] = order
    labels = np.repeat(np.arange(len(lengths), dtype=np.int32), padded)
    padding = _whole_length(max(len(positions), front or 0)) - len(positions)
    widths = (0, padding) if front is None else (padding, 0)
    return (
        np.pad(positions, widths, constant_values=-1),
        np.pad(labels, widths, constant_values=len(lengths)),
    )


def _whole_length(length: int) -> int:
    """The next length of four significant bits: an eighth more at most."""
    unit = 1 << max(0, length.bit_length() - 4)
    return -(-length // unit) * unit


def _arranged(
    cells: NDArray[Any], columns: list[int], order: NDArray[np.intp], fill: Any, indicators: int
) -> NDArray[Any]:
    """These columns of the table in working order, `(M, columns + indicators)`."""
    cells = np.pad(cells[:, columns], ((0, 0), (0, indicators)), constant_values=fill)
    arranged = cells[order]
    arranged[order < 0] = fill
    return arranged


def _pose(
    table: Table,
    layout: Rows | Windows,
    inputs: list[int],
    targets: list[int],
    movable: Flags,
    order: NDArray[np.intp],
    segments: NDArray[np.int32] | None,
    *,
    apart: bool,
) -> Problem:
    z = table.standardised().astype(np.float32)
    # The mean of the data that the scaling was learnt from stands in for a missing cell of a row,
    # which must not depend on the rows around it. Of a series it is the last value seen.
    x = _arranged(np.nan_to_num(z) if segments is None else z, inputs, order, np.nan, 0)
    hot = _arranged(table.indicators, list(range(table.indicators.shape[1])), order, 0, 0)
    return Problem(
        layout,
        np.concatenate([x, hot], axis=1),
        _arranged(z, targets, order, np.nan, 0) if apart else None,
        _arranged(movable, inputs, order, False, hot.shape[1]),
        _arranged(movable, targets, order, False, 0) if apart else None,
        segments,
        inputs,
        targets,
        order,
        len(table.values),
    )
