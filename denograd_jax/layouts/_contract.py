"""What a layout is to the refiner, and the arrays that it cuts from.

A layout handles `size` neighbouring instances at a time, from instance `start` on, so that the
caller decides how much is in memory; `start` may be traced, `size` may not.
"""

import dataclasses
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from denograd_jax._types import Instances, Targets
from denograd_jax.errors import ShapeError
from denograd_jax.rules import Consensus, Move

__all__ = ["Cut", "Data", "Layout", "Length", "Surroundings", "check_aligned", "column_mean"]


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Length:
    """How many rows or steps were given; those behind them are padding. Static, not an array."""

    given: int


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
        length: Set where the arrays were padded to share them out between devices; padding is
            missing and not movable, so that it changes nothing.
        noise_x: Standard deviation of the noise of each cell of x; its shape, or its shape with a
            first axis of 1 where all rows or steps share it. None: 1 everywhere.
        noise_y: The same for y.
    """

    x: jax.Array
    y: jax.Array | None
    observed_x: jax.Array
    observed_y: jax.Array | None
    movable_x: jax.Array
    movable_y: jax.Array | None
    segments: jax.Array | None = None
    length: Length | None = None
    noise_x: jax.Array | None = None
    noise_y: jax.Array | None = None


class Cut(NamedTuple):
    """Some instances: input `(n, ...)`, target `(n, q)`, its mask, and which instances count.

    Noise is cut like the array it belongs to, or has a first axis of 1 where instances share it.
    """

    x: Instances
    y: Targets
    observed_y: jax.Array
    valid: jax.Array
    noise_x: Instances | None = None
    noise_y: Targets | None = None


class Surroundings(Protocol):
    """What the steps at hand may know of the others, where they are one block of several."""

    def total(self, here: jax.Array) -> jax.Array:
        """The sum over all blocks."""

    def before(self, known: jax.Array, here: Any) -> tuple[jax.Array, Any]:
        """Of the blocks before, the last whose entry is `known`; and whether there is one."""


class Layout(Protocol):
    """What the refiner asks of a layout; hashable, since it is a static part of the program."""

    @property
    def shared(self) -> bool:
        """Whether targets that are columns of x are one variable with them."""

    @property
    def stride(self) -> int:
        """Rows or steps from one instance to the next."""

    @property
    def halo(self) -> int:
        """Rows or steps behind an instance's first that belong to it too."""

    def check(self, x: jax.Array, y: jax.Array | None) -> None:
        """Raise `ShapeError` where x and y do not fit the layout."""

    def fill(
        self, values: jax.Array, observed: jax.Array, segments: Any, around: Surroundings
    ) -> jax.Array:
        """Put finite stand-ins where x is missing."""

    def count(self, data: Data) -> int:
        """Number of instances, valid or not."""

    def valid(self, data: Data) -> jax.Array:
        """Which instances have a target and lie within one segment: `(count,)`."""

    def cut(self, data: Data, start: jax.Array | int, size: int) -> Cut:
        """Instances `start` to `start + size - 1`, with their noise where it is known."""

    def gather(self, data: Data, index: jax.Array) -> Cut:
        """Instances of any numbers, in any order, as training draws them."""

    def empty(self, data: Data) -> Any:
        """The sums of moves, at zero: a pytree whose arrays run along the first axis of x."""

    def add(
        self, sums: Any, start: jax.Array | int, moves: Move, counted: jax.Array, rule: Consensus
    ) -> Any:
        """Add the moves of neighbouring instances; those not `counted` are zero."""

    def corrections(
        self, data: Data, sums: Any, rule: Consensus
    ) -> tuple[jax.Array, jax.Array | None]:
        """The consensus of all moves, in the shapes of x and y."""


def check_aligned(x: jax.Array, y: jax.Array) -> None:
    """Refuse a y that does not run along the first axis of x."""
    if y.ndim not in (1, 2) or y.shape[0] != x.shape[0]:
        raise ShapeError(
            f"y must have shape ({x.shape[0]},) or ({x.shape[0]}, targets) to go with x of shape "
            f"{x.shape}, not {y.shape}."
        )


def column_mean(values: jax.Array, observed: jax.Array, around: Surroundings) -> jax.Array:
    """Mean of the observed cells per column, 0 where there are none, in the shape of `values`."""
    total = around.total(jnp.where(observed, values, 0).sum(axis=0, keepdims=True))
    count = around.total(observed.sum(axis=0, keepdims=True))
    mean = total / jnp.maximum(count, 1).astype(values.dtype)
    return jnp.broadcast_to(mean, values.shape)
