"""Tabular data: every row is an instance."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from denograd_jax.errors import ShapeError
from denograd_jax.layouts._contract import Cut, Data, Surroundings, check_aligned, column_mean
from denograd_jax.layouts._slabs import add_slab, slab
from denograd_jax.rules import Consensus, Move

__all__ = ["Rows", "rows"]


@dataclasses.dataclass(frozen=True)
class Rows:
    """Every row of x, with the same row of y, is one instance."""

    shared = True
    stride = 1
    halo = 0

    def check(self, x: jax.Array, y: jax.Array | None) -> None:
        """See `Layout`."""
        if x.ndim < 2:
            raise ShapeError(
                f"rows need x of shape (rows, features), not {x.shape}: reshape a single feature "
                "to (rows, 1)."
            )
        if y is None:
            raise ShapeError("rows need a target y of shape (rows,) or (rows, targets).")
        check_aligned(x, y)
        if x.shape[0] == 0:
            raise ShapeError(f"there are no rows to refine: x has shape {x.shape}.")

    def fill(
        self, values: jax.Array, observed: jax.Array, segments: Any, around: Surroundings
    ) -> jax.Array:
        """Column means in place of missing cells."""
        del segments
        return jnp.where(observed, values, column_mean(values, observed, around))

    def count(self, data: Data) -> int:
        """See `Layout`."""
        return data.x.shape[0]

    def valid(self, data: Data) -> jax.Array:
        """See `Layout`."""
        assert data.observed_y is not None
        return data.observed_y.reshape(data.observed_y.shape[0], -1).any(axis=1)

    def cut(self, data: Data, start: jax.Array | int, size: int) -> Cut:
        """See `Layout`."""
        assert data.y is not None
        assert data.observed_y is not None
        y, observed = (slab(a, start, size).reshape(size, -1) for a in (data.y, data.observed_y))
        noise_x, noise_y = (
            noise if noise is None or noise.shape[0] == 1 else slab(noise, start, size)
            for noise in (data.noise_x, data.noise_y)
        )
        noise_y = None if noise_y is None else noise_y.reshape(noise_y.shape[0], -1)
        x = slab(data.x, start, size)
        return Cut(x, y, observed, observed.any(axis=1), noise_x, noise_y)

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
        return add_slab(x, start, moves.x), add_slab(y, start, moves.y)

    def corrections(
        self, data: Data, sums: Any, rule: Consensus
    ) -> tuple[jax.Array, jax.Array | None]:
        """See `Layout`."""
        del rule
        assert data.y is not None
        x, y = sums
        return x, y.reshape(data.y.shape)


def rows() -> Rows:
    """Tabular data: every row is one instance, moved by its own gradient.

    Look-ahead: no; rows see each other only in the column mean that stands in for missing cells
    of x, and in a rule that looks at the whole data set.
    """
    return Rows()
