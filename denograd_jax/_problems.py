"""A numeric table posed as a refinement: what is input, what is target, and what may move."""

import dataclasses
from collections.abc import Collection, Hashable
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from denograd_jax import layouts
from denograd_jax._tables import Table
from denograd_jax._timeline import Timeline
from denograd_jax.errors import ColumnError, ShapeError
from denograd_jax.layouts import Rows, Windows

__all__ = ["Problem", "pose_rows", "pose_series"]

Floats: TypeAlias = NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class Problem:
    """Arrays for `Refiner.init`, in standardised units, and where their cells came from.

    Attributes:
        layout: Rows, or windows.
        x: `(N, d)` float32 in working order: the numeric `inputs`, then the indicators.
        y: `(N, q)` float32, or None where the targets are columns of x.
        movable_x: `(d,)` bool.
        movable_y: `(q,)` bool, or None.
        segments: `(N,)` int32, or None.
        inputs: Positions in the table of the numeric columns of x.
        targets: Positions in the table of the targets.
        order: `(N,)` row of the table at each working position.
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

    @property
    def kind(self) -> str:
        """Either "rows" or "series"."""
        return "rows" if isinstance(self.layout, Rows) else "series"

    @property
    def arrays(self) -> tuple[NDArray[Any] | None, ...]:
        """Positional arguments of `Refiner.init`."""
        return self.x, self.y, None, None, self.movable_x, self.movable_y, self.segments

    def to_table(self, x: Floats, y: Floats | None, columns: int) -> Floats:
        """Arrays shaped as x and y, as `(N, columns)` in the table's rows and columns."""
        table = np.zeros((len(self.order), columns))
        rows = self.order[:, None]
        table[rows, self.inputs] = x[:, : len(self.inputs)]
        if y is not None:
            table[rows, self.targets] = y
        return table

    def residuals_to_table(self, residual: Floats, columns: int) -> Floats:
        """Residuals `(n, q)` of instances, as `(N, columns)`: where the targets are, else NaN."""
        table = np.full((len(self.order), columns), np.nan)
        table[self._target_rows(len(residual))[:, None], self.targets] = residual
        return table

    def residuals_of_cells(self, residuals: Floats) -> Floats:
        """For each cell of a table the residual of its own column, else the largest of its row."""
        of_targets = residuals[:, self.targets]
        largest = np.nan_to_num(np.abs(of_targets), nan=-1).argmax(axis=1)
        of_row = of_targets[np.arange(len(residuals)), largest]
        is_target = np.isin(np.arange(residuals.shape[1]), self.targets)
        return np.where(is_target, residuals, of_row[:, None])

    def _target_rows(self, instances: int) -> NDArray[np.intp]:
        """Row of the table that holds each instance's target."""
        if isinstance(self.layout, Rows):
            return self.order
        first = self.layout.span - 1
        return self.order[first + np.arange(instances) * self.layout.stride]


def pose_rows(table: Table, targets: Collection[Hashable]) -> Problem:
    """Every row explains its target(s) by its other columns.

    Raises:
        ColumnError: No target, or nothing but targets.
    """
    if not targets:
        raise ColumnError(
            "rows need a target: name the column that the others explain with target=, or give "
            "window= if the rows are a time series."
        )
    y = table.positions(targets)
    inputs = [j for j in range(len(table.labels)) if j not in y]
    if not inputs and not table.indicators.shape[1]:
        raise ColumnError("there is no column besides the target for a model to learn from.")
    return _pose(table, layouts.rows(), inputs, y, np.arange(len(table.values)), None, apart=True)


def pose_series(
    table: Table,
    targets: Collection[Hashable],
    timeline: Timeline,
    layout: Windows,
    *,
    apart: bool,
) -> Problem:
    """Every window explains its target(s); without any, all movable columns of its target step.

    Args:
        table: The numbers.
        targets: Labels of the targets.
        timeline: Order and segments of the rows.
        layout: Windows, without target columns.
        apart: Whether the targets are no inputs.

    Raises:
        ShapeError: No window fits between the gaps and group borders.
    """
    _refuse_borders(timeline.segments, layout)
    y = table.positions(targets) if targets else np.flatnonzero(table.movable).tolist()
    inputs = [j for j in range(len(table.labels)) if not (apart and j in y)]
    if not apart:
        layout = dataclasses.replace(layout, target_columns=tuple(inputs.index(j) for j in y))
    return _pose(table, layout, inputs, y, timeline.order, timeline.segments, apart=apart)


def _refuse_borders(segments: NDArray[np.int32], layout: Windows) -> None:
    first = np.arange(0, len(segments) - layout.span + 1, layout.stride)
    if len(first) and (segments[first] != segments[first + layout.span - 1]).all():
        raise ShapeError(
            f"no window fits: a window of {layout.length} and a horizon of {layout.horizon} need "
            f"{layout.span} steps, the longest stretch between gaps and group borders has "
            f"{np.bincount(segments).max()}. Use a shorter window, or leave out time= to take the "
            "rows as evenly spaced."
        )


def _pose(
    table: Table,
    layout: Rows | Windows,
    inputs: list[int],
    targets: list[int],
    order: NDArray[np.intp],
    segments: NDArray[np.int32] | None,
    *,
    apart: bool,
) -> Problem:
    z = table.standardised()[order]
    frozen = np.zeros(table.indicators.shape[1], bool)
    return Problem(
        layout,
        np.concatenate([z[:, inputs], table.indicators[order]], axis=1).astype(np.float32),
        z[:, targets].astype(np.float32) if apart else None,
        np.concatenate([table.movable[inputs], frozen]),
        table.movable[targets] if apart else None,
        segments,
        inputs,
        targets,
        order,
    )
