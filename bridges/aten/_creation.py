"""Arrays made from nothing, or in the likeness of others."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from denograd_jax.bridges._registry import register_op
from denograd_jax.bridges.aten._dtypes import as_dtype, default_dtype

__all__: list[str] = []


@register_op("aten.arange.default")
def arange(end: Any, *, dtype: str | None = None, **_: Any) -> jax.Array:
    return arange_between(0, end, dtype=dtype)


@register_op("aten.arange.start", "aten.arange.start_step")
def arange_between(
    start: Any, end: Any, step: Any = 1, *, dtype: str | None = None, **_: Any
) -> jax.Array:
    is_float = any(isinstance(n, float) for n in (start, end, step))
    return jnp.arange(start, end, step, as_dtype(dtype or ("float32" if is_float else "int64")))


@register_op("aten.linspace")
def linspace(start: Any, end: Any, steps: int, *, dtype: str | None = None, **_: Any) -> jax.Array:
    return jnp.linspace(start, end, steps, dtype=as_dtype(dtype or "float32"))


@register_op("aten.full")
def full(size: Sequence[int], fill_value: Any, *, dtype: str | None = None, **_: Any) -> jax.Array:
    chosen = default_dtype(fill_value) if dtype is None else as_dtype(dtype)
    return jnp.full(tuple(size), fill_value, chosen)


@register_op("aten.full_like")
def full_like(self: jax.Array, fill_value: Any, *, dtype: str | None = None, **_: Any) -> jax.Array:
    return jnp.full(self.shape, fill_value, as_dtype(dtype) or self.dtype)


@register_op("aten.new_full")
def new_full(
    self: jax.Array, size: Sequence[int], fill_value: Any, *, dtype: str | None = None, **_: Any
) -> jax.Array:
    return jnp.full(tuple(size), fill_value, as_dtype(dtype) or self.dtype)


@register_op("aten.zeros", "aten.empty.memory_format")
def zeros(size: Sequence[int], *, dtype: str | None = None, **_: Any) -> jax.Array:
    return jnp.zeros(tuple(size), as_dtype(dtype or "float32"))


@register_op("aten.empty_strided", "aten.empty_permuted")
def empty_strided(
    size: Sequence[int], _layout: Any, *, dtype: str | None = None, **_: Any
) -> jax.Array:
    return zeros(size, dtype=dtype)


@register_op("aten.zeros_like", "aten.empty_like")
def zeros_like(self: jax.Array, *, dtype: str | None = None, **_: Any) -> jax.Array:
    return jnp.zeros(self.shape, as_dtype(dtype) or self.dtype)


@register_op("aten.new_zeros", "aten.new_empty")
def new_zeros(
    self: jax.Array, size: Sequence[int], *, dtype: str | None = None, **_: Any
) -> jax.Array:
    return jnp.zeros(tuple(size), as_dtype(dtype) or self.dtype)


@register_op("aten.ones")
def ones(size: Sequence[int], *, dtype: str | None = None, **_: Any) -> jax.Array:
    return jnp.ones(tuple(size), as_dtype(dtype or "float32"))


@register_op("aten.ones_like")
def ones_like(self: jax.Array, *, dtype: str | None = None, **_: Any) -> jax.Array:
    return jnp.ones(self.shape, as_dtype(dtype) or self.dtype)


@register_op("aten.new_ones")
def new_ones(
    self: jax.Array, size: Sequence[int], *, dtype: str | None = None, **_: Any
) -> jax.Array:
    return jnp.ones(tuple(size), as_dtype(dtype) or self.dtype)


@register_op("aten.fill")
def fill(self: jax.Array, value: Any) -> jax.Array:
    return jnp.broadcast_to(jnp.asarray(value, self.dtype), self.shape)


@register_op("aten.scalar_tensor", "prims.scalar_tensor")
def scalar_tensor(s: Any, *, dtype: str | None = None, **_: Any) -> jax.Array:
    return jnp.asarray(s, as_dtype(dtype or "float32"))


@register_op("aten.eye")
def eye(n: int, m: int | None = None, *, dtype: str | None = None, **_: Any) -> jax.Array:
    return jnp.eye(n, m, dtype=as_dtype(dtype or "float32"))


@register_op("aten.one_hot")
def one_hot(self: jax.Array, num_classes: int = -1) -> jax.Array:
    return jax.nn.one_hot(self, num_classes, dtype=as_dtype("int64"))


@register_op("aten.tril_indices")
def tril_indices(row: int, col: int, offset: int = 0, **_: Any) -> jax.Array:
    return jnp.stack(jnp.tril_indices(row, offset, col)).astype(as_dtype("int64"))


@register_op("aten.triu_indices")
def triu_indices(row: int, col: int, offset: int = 0, **_: Any) -> jax.Array:
    return jnp.stack(jnp.triu_indices(row, offset, col)).astype(as_dtype("int64"))
