"""Pooling: means and maxima over windows of the last axes."""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from denograd_jax.bridges._registry import register_op

__all__: list[str] = []


@register_op("aten.max_pool1d", "aten.max_pool2d", "aten.max_pool3d")
def max_pool(
    self: jax.Array,
    kernel_size: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0,),
    dilation: Sequence[int] = (1,),
    ceil_mode: bool = False,
    *,
    axes: int = 0,
) -> jax.Array:
    """Of ties the first has the gradient."""
    return _max_pool(self, kernel_size, stride, padding, dilation, ceil_mode)[0]


@register_op(
    "aten.max_pool1d_with_indices",
    "aten.max_pool2d_with_indices",
    "aten.max_pool3d_with_indices",
)
def max_pool_with_indices(
    self: jax.Array,
    kernel_size: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0,),
    dilation: Sequence[int] = (1,),
    ceil_mode: bool = False,
) -> tuple[jax.Array, None]:
    """Without the indices, which need another pass and are rarely read."""
    return _max_pool(self, kernel_size, stride, padding, dilation, ceil_mode)[0], None


def _max_pool(
    x: jax.Array,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    ceil_mode: bool,
) -> tuple[jax.Array, ...]:
    taps = _taps(x, kernel, stride, padding, dilation, ceil_mode, -jnp.inf)
    first = jnp.argmax(taps, axis=-1, keepdims=True)
    return (jnp.take_along_axis(taps, first, -1)[..., 0],)


@register_op("aten.avg_pool1d", "aten.avg_pool2d", "aten.avg_pool3d")
def avg_pool(
    self: jax.Array,
    kernel_size: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0,),
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> jax.Array:
    """Means; without `count_include_pad` of what is not padding only."""
    axes = len(kernel_size)
    steps, own = _each(stride or kernel_size, axes), _each(padding, axes)
    pads = _paddings(self, kernel_size, steps, own, (1,) * axes, ceil_mode)
    lead = [(0, 0)] * (self.ndim - axes)
    sums = _box_sum(jnp.pad(self, lead + pads), kernel_size, steps)
    if divisor_override is not None:
        return sums / divisor_override
    counted = jnp.ones(self.shape[-axes:], self.dtype)
    counted = jnp.pad(counted, [(p, p) for p in own], constant_values=int(count_include_pad))
    beyond = [(0, after - before) for before, after in pads]
    return sums / _box_sum(jnp.pad(counted, beyond), kernel_size, steps)


def _box_sum(x: jax.Array, kernel: Sequence[int], steps: Sequence[int]) -> jax.Array:
    lead = (1,) * (x.ndim - len(kernel))
    sizes, strides = (*lead, *kernel), (*lead, *steps)
    found: jax.Array = jax.lax.reduce_window(
        x, x.dtype.type(0), jax.lax.add, sizes, strides, "VALID"
    )
    return found


@register_op(
    "aten.adaptive_avg_pool1d",
    "aten.adaptive_avg_pool2d",
    "aten._adaptive_avg_pool2d",
    "aten._adaptive_avg_pool3d",
)
def adaptive_avg_pool(self: jax.Array, output_size: Sequence[int]) -> jax.Array:
    for axis, size in zip(range(-len(output_size), 0), output_size, strict=True):
        parts = [p.mean(axis, keepdims=True) for p in _parts(self, axis, size)]
        self = jnp.concatenate(parts, axis)
    return self


@register_op("aten.adaptive_max_pool1d", "aten.adaptive_max_pool2d")
def adaptive_max_pool(self: jax.Array, output_size: Sequence[int]) -> tuple[jax.Array, None]:
    """Without the indices. Of ties the first has the gradient."""
    axes = range(-len(output_size), 0)
    cuts = [_bounds(self.shape[a], size) for a, size in zip(axes, output_size, strict=True)]
    found = []
    for bounds in itertools.product(*cuts):
        part = self[(..., *(slice(*bound) for bound in bounds))]
        flat = part.reshape(*part.shape[: -len(cuts)], -1)
        first = jnp.argmax(flat, axis=-1, keepdims=True)
        found.append(jnp.take_along_axis(flat, first, -1)[..., 0])
    return jnp.stack(found, -1).reshape(*self.shape[: -len(cuts)], *output_size), None


def _parts(x: jax.Array, axis: int, number: int) -> list[jax.Array]:
    bounds = _bounds(x.shape[axis], number)
    return [jax.lax.slice_in_dim(x, a, b, axis=axis) for a, b in bounds]


def _bounds(length: int, number: int) -> list[tuple[int, int]]:
    return [(i * length // number, -(-(i + 1) * length // number)) for i in range(number)]


def _taps(
    x: jax.Array,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    ceil_mode: bool,
    beyond: float,
) -> jax.Array:
    """The numbers of each window, as a last axis."""
    axes = len(kernel)
    steps, dilation = _each(stride or kernel, axes), _each(dilation, axes)
    pads = _paddings(x, kernel, steps, padding, dilation, ceil_mode)
    x = jnp.pad(x, [(0, 0)] * (x.ndim - axes) + pads, constant_values=beyond)
    spans = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
    sizes = [
        (n - s - 1) // step + 1 for n, s, step in zip(x.shape[-axes:], spans, steps, strict=True)
    ]
    taps = []
    for offsets in itertools.product(*map(range, kernel)):
        cut: list[Any] = [...]
        for offset, d, step, size in zip(offsets, dilation, steps, sizes, strict=True):
            cut.append(slice(offset * d, offset * d + (size - 1) * step + 1, step))
        taps.append(x[tuple(cut)])
    return jnp.stack(taps, axis=-1)


def _paddings(
    x: jax.Array,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    ceil_mode: bool,
) -> list[tuple[int, int]]:
    """With `ceil_mode` a last window may reach over the end, if it begins before it."""
    axes = len(kernel)
    pads = []
    for n, k, s, p, d in zip(
        x.shape[-axes:], kernel, stride, _each(padding, axes), dilation, strict=True
    ):
        extra = 0
        if ceil_mode:
            room = n + 2 * p - d * (k - 1) - 1
            last = math.ceil(room / s)
            if last * s >= n + p:
                last -= 1
            extra = max(last * s - room, 0)
        pads.append((p, p + extra))
    return pads


def _each(given: Sequence[int], axes: int) -> tuple[int, ...]:
    return tuple(given) * axes if len(given) == 1 else tuple(given)
