"""Sums, means, extremes, norms and running totals along axes."""

import math
from typing import TypeAlias

import jax
import jax.numpy as jnp

from denograd_jax.bridges._registry import register_op
from denograd_jax.bridges.aten._dtypes import as_dtype
from denograd_jax.bridges.aten._elementwise import absolute, safe_sqrt

__all__: list[str] = []

Axes: TypeAlias = int | tuple[int, ...] | None


def _axes(dim: Axes) -> Axes:
    """An empty list of axes means all of them."""
    return None if dim == () else dim


@register_op("aten.sum")
def total(
    self: jax.Array, dim: Axes = None, keepdim: bool = False, *, dtype: str | None = None
) -> jax.Array:
    return self.sum(_axes(dim), dtype=as_dtype(dtype), keepdims=keepdim)


@register_op("aten.nansum")
def nansum(
    self: jax.Array, dim: Axes = None, keepdim: bool = False, *, dtype: str | None = None
) -> jax.Array:
    return jnp.nansum(self, _axes(dim), dtype=as_dtype(dtype), keepdims=keepdim)


@register_op("aten.mean")
def mean(
    self: jax.Array, dim: Axes = None, keepdim: bool = False, *, dtype: str | None = None
) -> jax.Array:
    return self.mean(_axes(dim), dtype=as_dtype(dtype), keepdims=keepdim)


@register_op("aten.prod")
def product(
    self: jax.Array, dim: Axes = None, keepdim: bool = False, *, dtype: str | None = None
) -> jax.Array:
    return self.prod(dim, dtype=as_dtype(dtype), keepdims=keepdim)


@register_op("aten.var.correction")
def variance(
    self: jax.Array, dim: Axes = None, *, correction: float | None = 1, keepdim: bool = False
) -> jax.Array:
    correction = 1 if correction is None else correction
    centred = self - self.mean(_axes(dim), keepdims=True)
    total = jnp.square(centred).sum(_axes(dim), keepdims=keepdim)
    return total / max(self.size / max(total.size, 1) - correction, 0)


@register_op("aten.var.dim")
def variance_unbiased(
    self: jax.Array, dim: Axes = None, unbiased: bool = True, keepdim: bool = False
) -> jax.Array:
    return variance(self, dim, correction=int(unbiased), keepdim=keepdim)


@register_op("aten.std.correction")
def deviation(
    self: jax.Array, dim: Axes = None, *, correction: float | None = 1, keepdim: bool = False
) -> jax.Array:
    """The derivative of a deviation of 0 is 0."""
    return safe_sqrt(variance(self, dim, correction=correction, keepdim=keepdim))


@register_op("aten.std.dim")
def deviation_unbiased(
    self: jax.Array, dim: Axes = None, unbiased: bool = True, keepdim: bool = False
) -> jax.Array:
    return safe_sqrt(variance_unbiased(self, dim, unbiased, keepdim))


@register_op("aten.var_mean.correction")
def variance_and_mean(
    self: jax.Array, dim: Axes = None, *, correction: float | None = 1, keepdim: bool = False
) -> tuple[jax.Array, jax.Array]:
    found = variance(self, dim, correction=correction, keepdim=keepdim)
    return found, self.mean(_axes(dim), keepdims=keepdim)


@register_op("aten.std_mean.correction")
def deviation_and_mean(
    self: jax.Array, dim: Axes = None, *, correction: float | None = 1, keepdim: bool = False
) -> tuple[jax.Array, jax.Array]:
    found, mean = variance_and_mean(self, dim, correction=correction, keepdim=keepdim)
    return safe_sqrt(found), mean


@register_op("aten.amax")
def amax(self: jax.Array, dim: Axes = (), keepdim: bool = False) -> jax.Array:
    """Ties share the gradient."""
    return self.max(_axes(dim), keepdims=keepdim)


@register_op("aten.amin")
def amin(self: jax.Array, dim: Axes = (), keepdim: bool = False) -> jax.Array:
    """Ties share the gradient."""
    return self.min(_axes(dim), keepdims=keepdim)


@register_op("aten.aminmax")
def aminmax(
    self: jax.Array, *, dim: int | None = None, keepdim: bool = False
) -> tuple[jax.Array, jax.Array]:
    return self.min(dim, keepdims=keepdim), self.max(dim, keepdims=keepdim)


@register_op("aten.max.default")
def maximum_of_all(self: jax.Array) -> jax.Array:
    return self.max()


@register_op("aten.min.default")
def minimum_of_all(self: jax.Array) -> jax.Array:
    return self.min()


@register_op("aten.max.other")
def larger(self: jax.Array, other: jax.Array) -> jax.Array:
    return jnp.maximum(self, other)


@register_op("aten.min.other")
def smaller(self: jax.Array, other: jax.Array) -> jax.Array:
    return jnp.minimum(self, other)


@register_op("aten.max.dim")
def maximum_along(self: jax.Array, dim: int, keepdim: bool = False) -> tuple[jax.Array, jax.Array]:
    """Of ties the first has the gradient."""
    return _taken_at(self, jnp.argmax(self, dim, keepdims=True), dim, keepdim)


@register_op("aten.min.dim")
def minimum_along(self: jax.Array, dim: int, keepdim: bool = False) -> tuple[jax.Array, jax.Array]:
    """Of ties the first has the gradient."""
    return _taken_at(self, jnp.argmin(self, dim, keepdims=True), dim, keepdim)


@register_op("aten.kthvalue")
def kth_value(
    self: jax.Array, k: int, dim: int = -1, keepdim: bool = False
) -> tuple[jax.Array, jax.Array]:
    order = jnp.argsort(self, dim)
    return _taken_at(self, jax.lax.slice_in_dim(order, k - 1, k, axis=dim), dim, keepdim)


@register_op("aten.median.dim")
def median_along(self: jax.Array, dim: int, keepdim: bool = False) -> tuple[jax.Array, jax.Array]:
    """The lower of the two in the middle; NaN if there is one."""
    middle = kth_value(self, (self.shape[dim] + 1) // 2, dim, keepdim=True)[1]
    has_nan = jnp.isnan(self).any(dim, keepdims=True)
    place = jnp.where(has_nan, jnp.argmax(self, dim, keepdims=True), middle)
    return _taken_at(self, place, dim, keepdim)


@register_op("aten.median.default")
def median_of_all(self: jax.Array) -> jax.Array:
    """Ties share the gradient."""
    middle = jax.lax.stop_gradient(median_along(self.ravel(), 0)[0])
    ties = (self == middle) | (jnp.isnan(self) & jnp.isnan(middle))
    return jnp.where(ties, self, 0).sum() / ties.sum()


def _taken_at(
    values: jax.Array, index: jax.Array, dim: int, keepdim: bool
) -> tuple[jax.Array, jax.Array]:
    taken = jnp.take_along_axis(values, index, dim)
    return (taken, index) if keepdim else (taken.squeeze(dim), index.squeeze(dim))


@register_op("aten.argmax")
def argmax(self: jax.Array, dim: int | None = None, keepdim: bool = False) -> jax.Array:
    return jnp.argmax(self, dim, keepdims=keepdim)


@register_op("aten.argmin")
def argmin(self: jax.Array, dim: int | None = None, keepdim: bool = False) -> jax.Array:
    return jnp.argmin(self, dim, keepdims=keepdim)


@register_op("aten.all")
def every(self: jax.Array, dim: Axes = None, keepdim: bool = False) -> jax.Array:
    return self.astype(bool).all(_axes(dim), keepdims=keepdim)


@register_op("aten.any")
def some(self: jax.Array, dim: Axes = None, keepdim: bool = False) -> jax.Array:
    return self.astype(bool).any(_axes(dim), keepdims=keepdim)


@register_op("aten.logsumexp")
def logsumexp(self: jax.Array, dim: Axes, keepdim: bool = False) -> jax.Array:
    found: jax.Array = jax.nn.logsumexp(self, _axes(dim), keepdims=keepdim)
    return found


@register_op("aten.linalg_vector_norm")
def vector_norm(
    self: jax.Array,
    ord: float = 2,
    dim: Axes = None,
    keepdim: bool = False,
    *,
    dtype: str | None = None,
) -> jax.Array:
    """The derivative of a norm of 0 is 0."""
    size = absolute(self if dtype is None else self.astype(as_dtype(dtype)))
    if ord == math.inf:
        return size.max(_axes(dim), keepdims=keepdim)
    if ord == -math.inf:
        return size.min(_axes(dim), keepdims=keepdim)
    if ord == 0:
        return (size != 0).astype(size.dtype).sum(_axes(dim), keepdims=keepdim)
    if ord == 1:
        return size.sum(_axes(dim), keepdims=keepdim)
    if ord == 2:
        return safe_sqrt(jnp.square(self).sum(_axes(dim), keepdims=keepdim))
    some = size > 0
    total = jnp.where(some, jnp.where(some, size, 1) ** ord, 0).sum(_axes(dim), keepdims=keepdim)
    return jnp.where(total > 0, jnp.where(total > 0, total, 1) ** (1 / ord), 0)


@register_op("aten.norm")
def norm(
    self: jax.Array,
    p: float | None = 2,
    dim: Axes = None,
    keepdim: bool = False,
    *,
    dtype: str | None = None,
) -> jax.Array:
    return vector_norm(self, 2 if p is None else p, dim, keepdim, dtype=dtype)


@register_op("aten.dist")
def distance(self: jax.Array, other: jax.Array, p: float = 2) -> jax.Array:
    return vector_norm(self - other, p)


@register_op("aten.cumsum")
def cumulative_sum(self: jax.Array, dim: int, *, dtype: str | None = None) -> jax.Array:
    return jnp.cumsum(self, dim, dtype=as_dtype(dtype))


@register_op("aten.cumprod")
def cumulative_product(self: jax.Array, dim: int, *, dtype: str | None = None) -> jax.Array:
    return jnp.cumprod(self, dim, dtype=as_dtype(dtype))


@register_op("aten.logcumsumexp")
def cumulative_logsumexp(self: jax.Array, dim: int) -> jax.Array:
    found: jax.Array = jax.lax.cumlogsumexp(self, axis=dim % self.ndim)
    return found


@register_op("aten.cummax")
def cumulative_maximum(self: jax.Array, dim: int) -> tuple[jax.Array, jax.Array]:
    """Of ties the last has the gradient."""
    axis = dim % self.ndim
    place = jax.lax.broadcasted_iota(jnp.int32, self.shape, axis)
    best = jax.lax.cummax(jax.lax.stop_gradient(self), axis=axis)
    index = jax.lax.cummax(jnp.where(self == best, place, 0), axis=axis)
    return jnp.take_along_axis(self, index, axis), index


@register_op("aten.cummin")
def cumulative_minimum(self: jax.Array, dim: int) -> tuple[jax.Array, jax.Array]:
    """Of ties the last has the gradient."""
    values, index = cumulative_maximum(-self, dim)
    return -values, index


@register_op("aten.sort", "aten.sort.stable")
def sort(
    self: jax.Array, dim: int = -1, descending: bool = False, *, stable: bool | None = None
) -> tuple[jax.Array, jax.Array]:
    order = jnp.argsort(self, dim, descending=descending)
    return jnp.take_along_axis(self, order, dim), order


@register_op("aten.argsort")
def argsort(self: jax.Array, dim: int = -1, descending: bool = False) -> jax.Array:
    return jnp.argsort(self, dim, descending=descending)


@register_op("aten.topk")
def topk(
    self: jax.Array, k: int, dim: int = -1, largest: bool = True, sorted: bool = True
) -> tuple[jax.Array, jax.Array]:
    order = jnp.argsort(self, dim, descending=largest)
    first = jax.lax.slice_in_dim(order, 0, k, axis=dim)
    return jnp.take_along_axis(self, first, dim), first


@register_op("aten.count_nonzero")
def count_nonzero(self: jax.Array, dim: Axes = None) -> jax.Array:
    return jnp.count_nonzero(self, dim)
