"""Sliding windows over a series, and the consensus of their corrections."""

import dataclasses
import operator
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from denograd_jax.errors import ShapeError
from denograd_jax.layouts._contract import Cut, Data, Surroundings, check_aligned, column_mean
from denograd_jax.layouts._slabs import add_slab, box_sum, overlap_add, slab, windows_of
from denograd_jax.rules import Consensus, Move

__all__ = ["WindowSums", "Windows", "windows"]


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

    @property
    def halo(self) -> int:
        """Steps behind a window's first that belong to it or its target."""
        return self.span - 1

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
            check_aligned(x, y)
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

    def fill(
        self, values: jax.Array, observed: jax.Array, segments: Any, around: Surroundings
    ) -> jax.Array:
        """The last value seen in the segment, else the column mean."""
        steps = jnp.arange(values.shape[0])[:, None]
        last = jax.lax.cummax(jnp.where(observed, steps, -1), axis=0)
        here, last = last >= 0, jnp.maximum(last, 0)
        segments = jnp.zeros(len(values), jnp.int32) if segments is None else segments
        carried = jnp.take_along_axis(values, last, axis=0), segments[last]
        seen, earlier = around.before(here[-1], jax.tree.map(lambda a: a[-1], carried))
        value, segment = (
            jnp.where(here, a, b[None]) for a, b in zip(carried, earlier, strict=True)
        )
        seen = (here | seen[None]) & (segment == segments[:, None])
        return jnp.where(seen, value, column_mean(values, observed, around))

    def count(self, data: Data) -> int:
        """See `Layout`."""
        return (data.x.shape[0] - self.span) // self.stride + 1

    def valid(self, data: Data) -> jax.Array:
        """See `Layout`."""
        _, observed = self._target_arrays(data)
        target = slice(self.halo, None, self.stride)
        seen = observed.reshape(observed.shape[0], -1)[target]
        valid = seen[:, self._columns(data)].any(axis=1)
        if data.segments is not None:
            valid &= data.segments[: -self.halo : self.stride] == data.segments[target]
        return valid

    def cut(self, data: Data, start: jax.Array | int, size: int) -> Cut:
        """See `Layout`."""
        first, steps = start * self.stride, (size - 1) * self.stride
        series = slab(data.x, first, steps + self.length)
        x = windows_of(series, self.stride, size, self.length)
        target = first + self.span - 1
        y, observed = (
            slab(a, target, steps + 1)[:: self.stride].reshape(size, -1)[:, self._columns(data)]
            for a in self._target_arrays(data)
        )
        valid = observed.any(axis=1)
        if data.segments is not None:
            begin, end = (
                slab(data.segments, at, steps + 1)[:: self.stride] for at in (first, target)
            )
            valid &= begin == end
        noise_x, noise_y = self._cut_noise(data, first, size)
        x = x.reshape(size, -1) if self.flatten else x
        return Cut(x, y, observed, valid, noise_x, noise_y)

    def gather(self, data: Data, index: jax.Array) -> Cut:
        """See `Layout`."""
        first = index * self.stride
        target = first + self.span - 1
        x = data.x[first[:, None] + jnp.arange(self.length)[None, :]]
        y, observed = (
            a.reshape(a.shape[0], -1)[target][:, self._columns(data)]
            for a in self._target_arrays(data)
        )
        valid = observed.any(axis=1)
        if data.segments is not None:
            valid &= data.segments[first] == data.segments[target]
        return Cut(x.reshape(index.size, -1) if self.flatten else x, y, observed, valid)

    def empty(self, data: Data) -> WindowSums:
        """See `Layout`."""
        steps, dtype = data.x.shape[0], data.x.dtype
        y, _ = self._target_arrays(data)
        targets = y.size // steps if data.y is not None else len(self.target_columns or ())
        return WindowSums(
            jnp.zeros_like(data.x),
            jnp.zeros((steps, targets), dtype),
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
        """Add moves up on the steps that they belong to, first within these windows' own steps."""
        size = moves.gate.shape[0]
        voices = counted & (moves.gate > 0) if self._consensus(rule) == "votes" else counted
        weight = voices.astype(sums.x.dtype)
        first = start * self.stride
        moves_x = moves.x.reshape(size, self.length, -1)
        starts = self._spread(weight)
        target = first + self.span - 1
        return WindowSums(
            add_slab(sums.x, first, overlap_add(moves_x, self.stride)),
            add_slab(sums.y, target, self._spread(moves.y)),
            add_slab(sums.count_x, first, box_sum(starts, self.length)),
            add_slab(sums.count_y, target, starts),
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

    def _target_arrays(self, data: Data) -> tuple[jax.Array, jax.Array]:
        """Where targets and their mask stand; in `_columns` of it."""
        if data.y is None:
            return data.x, data.observed_x
        assert data.observed_y is not None
        return data.y, data.observed_y

    def _cut_noise(
        self, data: Data, first: jax.Array | int, size: int
    ) -> tuple[jax.Array | None, jax.Array | None]:
        """Noise of windows from step `first` on and of their targets, or what all share."""

        def of_inputs(noise: jax.Array) -> jax.Array:
            at, count = first, size
            if noise.shape[0] == 1:  # one window stands for all
                noise, at, count = jnp.broadcast_to(noise, (self.length, noise.shape[1])), 0, 1
            series = slab(noise, at, (count - 1) * self.stride + self.length)
            windows = windows_of(series, self.stride, count, self.length)
            return windows.reshape(count, -1) if self.flatten else windows

        def of_targets(noise: jax.Array) -> jax.Array:
            if noise.shape[0] > 1:
                steps = (size - 1) * self.stride + 1
                noise = slab(noise, first + self.span - 1, steps)[:: self.stride]
            return noise.reshape(noise.shape[0], -1)[:, self._columns(data)]

        targets = data.noise_x if data.y is None else data.noise_y
        return (
            None if data.noise_x is None else of_inputs(data.noise_x),
            None if targets is None else of_targets(targets),
        )

    def _columns(self, data: Data) -> Any:
        return slice(None) if data.y is not None else jnp.array(self.target_columns)

    def _spread(self, values: jax.Array) -> jax.Array:
        """Values of neighbouring windows, `stride` steps apart, zeros between."""
        length = (values.shape[0] - 1) * self.stride + 1
        return jnp.zeros((length, *values.shape[1:]), values.dtype).at[:: self.stride].set(values)


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
