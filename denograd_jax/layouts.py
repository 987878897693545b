"""How instances are cut from data, and how their moves go back: rows, and windows of a series.

A layout handles `size` neighbouring instances at a time, from instance `start` on, so that the
caller decides how much is in memory; `start` may be traced, `size` may not.
"""

import dataclasses
import operator
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from denograd_jax._types import Instances, Targets
from denograd_jax.errors import ShapeError
from denograd_jax.rules import Consensus, Move

__all__ = ["Cut", "Data", "Layout", "Rows", "Windows", "rows", "windows"]


class Data(NamedTuple):
    """Arrays being refined, with what is known about each cell; missing cells hold a finite fill.

    Attributes:
        x: Inputs `(N, ...)`, or the series `(T, C)`.
        y: Targets `(N,)` or `(N, q)`, aligned with x along the first axis; None where the targets
            are columns of x (`target_columns`).
        observed_x: True where x was measured; its shape.
        observed_y: The same for y.
        movable_x: True where x may be corrected; its shape.
        movable_y: The same for y.
        segments: `(T,)` integers, or None: a window lies within one segment (one series of a
            panel, one stretch without a gap), whose steps are neighbours.
    """

    x: jax.Array
    y: jax.Array | None
    observed_x: jax.Array
    observed_y: jax.Array | None
    movable_x: jax.Array
    movable_y: jax.Array | None
    segments: jax.Array | None = None


class Cut(NamedTuple):
    """Some instances: input `(n, ...)`, target `(n, q)`, its mask, and which instances count."""

    x: Instances
    y: Targets
    observed_y: jax.Array
    valid: jax.Array


class Layout(Protocol):
    """What the refiner asks of a layout; hashable, since it is a static part of the program.

    Attributes:
        shared: False where targets begin as a copy of columns of x.
    """

    @property
    def shared(self) -> bool:
        """Whether targets that are columns of x are one variable with them."""

    def check(self, x: jax.Array, y: jax.Array | None) -> None:
        """Raise `ShapeError` where x and y do not fit the layout."""

    def fill(self, values: jax.Array, observed: jax.Array, segments: Any) -> jax.Array:
        """Put finite stand-ins where x is missing."""

    def count(self, data: Data) -> int:
        """Number of instances, valid or not."""

    def cut(self, data: Data, start: jax.Array | int, size: int) -> Cut:
        """Instances `start` to `start + size - 1`."""

    def gather(self, data: Data, index: jax.Array) -> Cut:
        """Instances of any numbers, in any order, as training draws them."""

    def empty(self, data: Data) -> Any:
        """The sums of moves, at zero."""

    def add(
        self, sums: Any, start: jax.Array | int, moves: Move, counted: jax.Array, rule: Consensus
    ) -> Any:
        """Add the moves of neighbouring instances; those not `counted` are zero."""

    def corrections(
        self, data: Data, sums: Any, rule: Consensus
    ) -> tuple[jax.Array, jax.Array | None]:
        """The consensus of all moves, in the shapes of x and y."""


@dataclasses.dataclass(frozen=True)
class Rows:
    """Every row of x, with the same row of y, is one instance."""

    shared = True

    def check(self, x: jax.Array, y: jax.Array | None) -> None:
        """See `Layout`."""
        if x.ndim < 2:
            raise ShapeError(
                f"rows need x of shape (rows, features), not {x.shape}: reshape a single feature "
                "to (rows, 1)."
            )
        if y is None:
            raise ShapeError("rows need a target y of shape (rows,) or (rows, targets).")
        _check_aligned(x, y)
        if x.shape[0] == 0:
            raise ShapeError(f"there are no rows to refine: x has shape {x.shape}.")

    def fill(self, values: jax.Array, observed: jax.Array, segments: Any) -> jax.Array:
        """Column means in place of missing cells."""
        del segments
        return jnp.where(observed, values, _column_mean(values, observed))

    def count(self, data: Data) -> int:
        """See `Layout`."""
        return data.x.shape[0]

    def cut(self, data: Data, start: jax.Array | int, size: int) -> Cut:
        """See `Layout`."""
        assert data.y is not None
        assert data.observed_y is not None
        y, observed = (_slab(a, start, size).reshape(size, -1) for a in (data.y, data.observed_y))
        return Cut(_slab(data.x, start, size), y, observed, observed.any(axis=1))

    def gather(self, data: Data, index: jax.Array) -> Cut:
        """See `Layout`."""
        assert data.y is not None
        assert data.observed_y is not None
        y, observed = (a.reshape(a.shape[0], -1)[index] for a in (data.y, data.observed_y))
        return Cut(data.x[index], y, observed, observed.any(axis=1))

    def empty(self, data: Data) -> Any:
        """See `Layout`."""
        assert data.y is not None
        y = data.y.reshape(data.y.shape[0], -1)
        return jnp.zeros_like(data.x), jnp.zeros(y.shape, data.x.dtype)

    def add(
        self, sums: Any, start: jax.Array | int, moves: Move, counted: jax.Array, rule: Consensus
    ) -> Any:
        """See `Layout`."""
        del counted, rule
        x, y = sums
        return _add_slab(x, start, moves.x), _add_slab(y, start, moves.y)

    def corrections(
        self, data: Data, sums: Any, rule: Consensus
    ) -> tuple[jax.Array, jax.Array | None]:
        """See `Layout`."""
        del rule
        assert data.y is not None
        x, y = sums
        return x, y.reshape(data.y.shape)


class WindowSums(NamedTuple):
    """Moves added up per step, and how many windows had a say in each step."""

    x: jax.Array
    y: jax.Array
    count_x: jax.Array
    count_y: jax.Array


@dataclasses.dataclass(frozen=True)
class Windows:
    """Sliding windows over a series; overlapping corrections are averaged (the consensus).

    Window w covers steps `w*stride` to `w*stride + length - 1` and predicts step
    `w*stride + length + horizon - 1`.
    """

    length: int
    horizon: int = 1
    stride: int = 1
    consensus: Consensus | None = None
    target_columns: tuple[int, ...] | None = None
    flatten: bool = False
    shared: bool = True

    def __post_init__(self) -> None:
        """Refuse numbers that describe no window."""
        for name in ("length", "horizon", "stride"):
            if getattr(self, name) < 1:
                raise ShapeError(f"{name} must be at least 1, not {getattr(self, name)}.")
        if self.consensus not in ("visits", "votes", "sum", None):
            raise ValueError(
                f'consensus must be "visits", "votes" or "sum", not {self.consensus!r}'
            )

    @property
    def span(self) -> int:
        """Steps from the first of a window to its target, both counted."""
        return self.length + self.horizon

    def check(self, x: jax.Array, y: jax.Array | None) -> None:
        """See `Layout`."""
        if x.ndim != 2:
            raise ShapeError(
                f"windows need a series x of shape (steps, channels), not {x.shape}: reshape a "
                "single channel to (steps, 1)."
            )
        if (y is None) == (self.target_columns is None):
            raise ShapeError(
                "windows need either y of shape (steps,) or (steps, targets), or target_columns= "
                "in layouts.windows(...) when the target is a column of x; "
                + ("neither was given." if y is None else "both were given.")
            )
        if y is not None:
            _check_aligned(x, y)
        if self.target_columns == ():
            raise ShapeError("target_columns names no column.")
        for column in self.target_columns or ():
            if not 0 <= column < x.shape[1]:
                raise ShapeError(f"target column {column} is not among {x.shape[1]} channels.")
        if x.shape[0] < self.span:
            raise ShapeError(
                f"no window fits: {x.shape[0]} steps, but a window of {self.length} and a horizon "
                f"of {self.horizon} need at least {self.span}."
            )

    def fill(self, values: jax.Array, observed: jax.Array, segments: Any) -> jax.Array:
        """The last value seen in the segment, else the column mean."""
        steps = jnp.arange(values.shape[0])[:, None]
        last = jax.lax.cummax(jnp.where(observed, steps, -1), axis=0)
        seen = last >= 0
        if segments is not None:
            seen &= segments[jnp.maximum(last, 0)] == segments[:, None]
        carried = jnp.take_along_axis(values, jnp.maximum(last, 0), axis=0)
        return jnp.where(seen, carried, _column_mean(values, observed))

    def count(self, data: Data) -> int:
        """See `Layout`."""
        return (data.x.shape[0] - self.span) // self.stride + 1

    def cut(self, data: Data, start: jax.Array | int, size: int) -> Cut:
        """See `Layout`."""
        first, steps = start * self.stride, (size - 1) * self.stride
        series = _slab(data.x, first, steps + self.length)
        x = series[self._offsets(size)]
        target = first + self.span - 1
        y, observed = (
            _slab(a, target, steps + 1)[:: self.stride].reshape(size, -1)
            for a in self._targets(data)
        )
        valid = observed.any(axis=1)
        if data.segments is not None:
            begin, end = (
                _slab(data.segments, at, steps + 1)[:: self.stride] for at in (first, target)
            )
            valid &= begin == end
        return Cut(x.reshape(size, -1) if self.flatten else x, y, observed, valid)

    def gather(self, data: Data, index: jax.Array) -> Cut:
        """See `Layout`."""
        first = index * self.stride
        target = first + self.span - 1
        x = data.x[first[:, None] + jnp.arange(self.length)[None, :]]
        y, observed = (a.reshape(a.shape[0], -1)[target] for a in self._targets(data))
        valid = observed.any(axis=1)
        if data.segments is not None:
            valid &= data.segments[first] == data.segments[target]
        return Cut(x.reshape(index.size, -1) if self.flatten else x, y, observed, valid)

    def empty(self, data: Data) -> WindowSums:
        """See `Layout`."""
        y, _ = self._targets(data)
        steps, dtype = data.x.shape[0], data.x.dtype
        return WindowSums(
            jnp.zeros_like(data.x),
            jnp.zeros(y.reshape(steps, -1).shape, dtype),
            jnp.zeros(steps, dtype),
            jnp.zeros(steps, dtype),
        )

    def add(
        self,
        sums: WindowSums,
        start: jax.Array | int,
        moves: Move,
        counted: jax.Array,
        rule: Consensus,
    ) -> WindowSums:
        """Scatter moves on the steps that they belong to: one `segment_sum` over all windows."""
        size = moves.gate.shape[0]
        voices = counted & (moves.gate > 0) if self._consensus(rule) == "votes" else counted
        weight = voices.astype(sums.x.dtype)
        first, length = start * self.stride, (size - 1) * self.stride + self.length
        step = self._offsets(size).ravel()

        def scatter(values: jax.Array) -> jax.Array:
            flat = values.reshape(size * self.length, *values.shape[2:])
            return jax.ops.segment_sum(flat, step, num_segments=length)

        each_step = jnp.broadcast_to(weight[:, None], (size, self.length))
        target = first + self.span - 1
        return WindowSums(
            _add_slab(sums.x, first, scatter(moves.x.reshape(size, self.length, -1))),
            _add_slab(sums.y, target, self._spread(moves.y)),
            _add_slab(sums.count_x, first, scatter(each_step)),
            _add_slab(sums.count_y, target, self._spread(weight)),
        )

    def corrections(
        self, data: Data, sums: WindowSums, rule: Consensus
    ) -> tuple[jax.Array, jax.Array | None]:
        """Divide by the number of windows that had a say; a target column has its own besides."""
        average = self._consensus(rule) != "sum"

        def divide(total: jax.Array, count: jax.Array) -> jax.Array:
            return total / jnp.maximum(count, 1) if average else total

        if data.y is not None:
            x = divide(sums.x, sums.count_x[:, None])
            y = divide(sums.y, sums.count_y[:, None])
            return x, y.reshape(data.y.shape)
        columns = jnp.array(self.target_columns)
        count = jnp.broadcast_to(sums.count_x[:, None], sums.x.shape)
        count = count.at[:, columns].add(sums.count_y[:, None])
        return divide(sums.x.at[:, columns].add(sums.y), count), None

    def _consensus(self, rule: Consensus) -> Consensus:
        return rule if self.consensus is None else self.consensus

    def _targets(self, data: Data) -> tuple[jax.Array, jax.Array]:
        if data.y is not None:
            assert data.observed_y is not None
            return data.y, data.observed_y
        columns = jnp.array(self.target_columns)
        return data.x[:, columns], data.observed_x[:, columns]

    def _offsets(self, size: int) -> jax.Array:
        """Steps of each of `size` windows, counted from the first step of the first: (size, W)."""
        return jnp.arange(size)[:, None] * self.stride + jnp.arange(self.length)[None, :]

    def _spread(self, values: jax.Array) -> jax.Array:
        """Values of neighbouring windows, `stride` steps apart, zeros between."""
        length = (values.shape[0] - 1) * self.stride + 1
        return jnp.zeros((length, *values.shape[1:]), values.dtype).at[:: self.stride].set(values)


def rows() -> Rows:
    """Tabular data: every row is one instance, moved by its own gradient.

    Look-ahead: no; rows see each other only in the column mean that stands in for missing cells
    of x, and in a rule that looks at the whole data set.
    """
    return Rows()


def windows(
    length: int,
    horizon: int = 1,
    stride: int = 1,
    consensus: Consensus | None = None,
    target_columns: Sequence[int] | None = None,
    *,
    flatten: bool = False,
    shared: bool = True,
) -> Windows:
    """A series in sliding windows, whose corrections of one step are combined into one.

    Look-ahead: yes; a step is corrected by all windows that contain it, later targets included.

    Args:
        length: Steps in a window, W.
        horizon: Steps from the last of a window to its target, h.
        stride: Steps from one window to the next, counted from the first step of the array, not of
            a segment.
        consensus: "visits" divides by all windows that contain a step (the published rule),
            "votes" by those that the gate let in, "sum" adds up; None leaves it to the rule.
        target_columns: Columns of x that are the target. Input and target are then one variable,
            moved by both kinds of windows; y must not be given.
        flatten: Hand each window to the model as one vector `(W*C,)`, step by step.
        shared: Whether target columns are one variable with the input; otherwise y begins as a
            copy of them and drifts apart, as in the published rule.

    Raises:
        ShapeError: If a number is below 1.
        TypeError: If a number is not whole.
    """
    columns = None if target_columns is None else tuple(operator.index(c) for c in target_columns)
    length, horizon, stride = (operator.index(n) for n in (length, horizon, stride))
    return Windows(length, horizon, stride, consensus, columns, flatten, shared)


def _check_aligned(x: jax.Array, y: jax.Array) -> None:
    if y.ndim not in (1, 2) or y.shape[0] != x.shape[0]:
        raise ShapeError(
            f"y must have shape ({x.shape[0]},) or ({x.shape[0]}, targets) to go with x of shape "
            f"{x.shape}, not {y.shape}."
        )


def _column_mean(values: jax.Array, observed: jax.Array) -> jax.Array:
    """Mean of the observed cells per column, 0 where there are none, in the shape of `values`."""
    total = jnp.where(observed, values, 0).sum(axis=0, keepdims=True)
    mean = total / jnp.maximum(observed.sum(axis=0, keepdims=True), 1).astype(values.dtype)
    return jnp.broadcast_to(mean, values.shape)


def _slab(values: jax.Array, start: jax.Array | int, size: int) -> jax.Array:
    return jax.lax.dynamic_slice_in_dim(values, start, size)


def _add_slab(total: jax.Array, start: jax.Array | int, values: jax.Array) -> jax.Array:
    """`total[start:start + len(values)] += values`."""
    summed = _slab(total, start, values.shape[0]) + values
    return jax.lax.dynamic_update_slice_in_dim(total, summed, start, axis=0)
