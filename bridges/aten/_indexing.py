"""Parts of arrays: by position, by index arrays, by masks."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from denograd_jax.bridges._registry import register_op
from denograd_jax.errors import UnsupportedError

__all__: list[str] = []

_LAST = 2**62  # torch writes "to the end" as the largest number of 64 bits


@register_op("aten.select.int")
def select(self: jax.Array, dim: int, index: int) -> jax.Array:
    return jax.lax.index_in_dim(self, index, axis=dim, keepdims=False)


@register_op("aten.slice.Tensor")
def slice_along(
    self: jax.Array, dim: int = 0, start: Any = None, end: Any = None, step: int = 1
) -> jax.Array:
    return self[_slices(self, dim, start, end, step)]


def _slices(x: jax.Array, dim: int, start: Any, end: Any, step: int) -> tuple[slice, ...]:
    end = None if isinstance(end, int) and end >= _LAST else end
    return (slice(None),) * (dim % x.ndim) + (slice(start, end, step),)


@register_op("aten.select_scatter")
def select_scatter(self: jax.Array, src: jax.Array, dim: int, index: int) -> jax.Array:
    return self.at[(slice(None),) * (dim % self.ndim) + (index,)].set(src)


@register_op("aten.slice_scatter")
def slice_scatter(
    self: jax.Array,
    src: jax.Array,
    dim: int = 0,
    start: Any = None,
    end: Any = None,
    step: int = 1,
) -> jax.Array:
    return self.at[_slices(self, dim, start, end, step)].set(src)


@register_op("aten.index.Tensor", "aten._unsafe_index.Tensor")
def index(self: jax.Array, indices: Sequence[jax.Array | None]) -> jax.Array:
    if any(i is not None and i.dtype == bool for i in indices):
        raise UnsupportedError(
            "x[mask] has as many elements as the mask has True: write torch.where(mask, ...)."
        )
    return self[_places(indices)]


@register_op("aten.index_put", "aten._unsafe_index_put")
def index_put(
    self: jax.Array,
    indices: Sequence[jax.Array | None],
    values: jax.Array,
    accumulate: bool = False,
) -> jax.Array:
    """Masks have the shape of the first axes; elsewhere an index below 0 counts from the end."""
    mask = indices[0]
    if len(indices) == 1 and mask is not None and mask.dtype == bool:
        mask = mask.reshape(*mask.shape, *[1] * (self.ndim - mask.ndim))
        return jnp.where(mask, self + values if accumulate else values, self).astype(self.dtype)
    place = self.at[_places(indices)]
    return place.add(values) if accumulate else place.set(values)


def _places(indices: Sequence[jax.Array | None]) -> tuple[Any, ...]:
    return tuple(slice(None) if i is None else i for i in indices)


@register_op("aten.index_select")
def index_select(self: jax.Array, dim: int, index: jax.Array) -> jax.Array:
    return jnp.take(self, index, axis=dim)


@register_op("aten.take_along_dim")
def take_along_dim(self: jax.Array, indices: jax.Array, dim: int | None = None) -> jax.Array:
    return jnp.take_along_axis(self, indices, dim)


@register_op("aten.embedding")
def embedding(
    weight: jax.Array, indices: jax.Array, padding_idx: int = -1, *_: Any, **__: Any
) -> jax.Array:
    """The row of padding has no gradient."""
    rows = jnp.take(weight, indices, axis=0)
    if padding_idx < 0:
        return rows
    return jnp.where((indices == padding_idx)[..., None], jax.lax.stop_gradient(rows), rows)


@register_op("aten.gather")
def gather(self: jax.Array, dim: int, index: jax.Array, *, sparse_grad: bool = False) -> jax.Array:
    return self[_along(index, dim)]


@register_op("aten.scatter.src")
def scatter(self: jax.Array, dim: int, index: jax.Array, src: jax.Array) -> jax.Array:
    return self.at[_along(index, dim)].set(_head(src, index))


@register_op("aten.scatter.value")
def scatter_value(self: jax.Array, dim: int, index: jax.Array, value: Any) -> jax.Array:
    return self.at[_along(index, dim)].set(value)


@register_op("aten.scatter_add")
def scatter_add(self: jax.Array, dim: int, index: jax.Array, src: jax.Array) -> jax.Array:
    return self.at[_along(index, dim)].add(_head(src, index))


@register_op("aten.index_add")
def index_add(
    self: jax.Array, dim: int, index: jax.Array, source: jax.Array, *, alpha: float = 1
) -> jax.Array:
    return self.at[(slice(None),) * (dim % self.ndim) + (index,)].add(alpha * source)


@register_op("aten.index_copy")
def index_copy(self: jax.Array, dim: int, index: jax.Array, source: jax.Array) -> jax.Array:
    return self.at[(slice(None),) * (dim % self.ndim) + (index,)].set(source)


@register_op("aten.index_fill.int_Scalar")
def index_fill(self: jax.Array, dim: int, index: jax.Array, value: Any) -> jax.Array:
    return self.at[(slice(None),) * (dim % self.ndim) + (index,)].set(value)


def _along(index: jax.Array, dim: int) -> tuple[jax.Array, ...]:
    """Indices of all axes: `index` along one, the place itself along the others."""
    places = list(jnp.indices(index.shape, sparse=True))
    places[dim % index.ndim] = index
    return tuple(places)


def _head(src: jax.Array, index: jax.Array) -> jax.Array:
    return src[tuple(slice(size) for size in index.shape)]


@register_op("aten.searchsorted.Tensor")
def searchsorted(
    sorted_sequence: jax.Array,
    self: jax.Array,
    *,
    out_int32: bool = False,
    right: bool = False,
    side: str | None = None,
    sorter: jax.Array | None = None,
) -> jax.Array:
    side = side or ("right" if right else "left")
    if sorter is not None:
        sorted_sequence = jnp.take_along_axis(sorted_sequence, sorter, -1)

    def one(row: jax.Array, values: jax.Array) -> jax.Array:
        return jnp.searchsorted(row, values, side=side)

    for _axis in range(sorted_sequence.ndim - 1):
        one = jax.vmap(one)
    return one(sorted_sequence, self)


@register_op("aten.bucketize.Tensor")
def bucketize(
    self: jax.Array, boundaries: jax.Array, *, out_int32: bool = False, right: bool = False
) -> jax.Array:
    return jnp.searchsorted(boundaries, self, side="right" if right else "left")
