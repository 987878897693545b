"""Neighbouring steps of a series: cutting windows from them, and adding windows up on them."""

import jax
import jax.numpy as jnp

__all__ = ["add_slab", "box_sum", "overlap_add", "slab", "windows_of"]

# Below this length a chunk's windows are added up by so many shifted slices in one fused loop;
# the program grows with the length, and beyond it the scatter is as fast.
_LONGEST_SHIFTED = 128


def slab(values: jax.Array, start: jax.Array | int, size: int) -> jax.Array:
    """`values[start : start + size]`; start may be traced."""
    return jax.lax.dynamic_slice_in_dim(values, start, size)


def add_slab(total: jax.Array, start: jax.Array | int, values: jax.Array) -> jax.Array:
    """`total[start : start + len(values)] += values`."""
    summed = slab(total, start, values.shape[0]) + values
    return jax.lax.dynamic_update_slice_in_dim(total, summed, start, axis=0)


def windows_of(series: jax.Array, stride: int, size: int, length: int) -> jax.Array:
    """`size` windows, `stride` steps apart: (size, length, C), each copied as one piece."""
    starts = jnp.arange(size) * stride
    return jax.vmap(lambda start: slab(series, start, length))(starts)


def overlap_add(windows: jax.Array, stride: int) -> jax.Array:
    """Add windows (size, length, C) up on the steps that they cover: the adjoint of `windows_of`.

    One `segment_sum` over all steps of all windows; where the stride is 1 and windows are short,
    the same sum by shifted slices, which on a CPU takes about half of that (the scatter is serial)
    and on an accelerator needs no atomic additions.
    """
    size, length, channels = windows.shape
    if stride == 1 and length <= _LONGEST_SHIFTED:
        return _shifted_sum(windows)
    step = jnp.arange(size)[:, None] * stride + jnp.arange(length)[None, :]
    return jax.ops.segment_sum(
        windows.reshape(size * length, channels),
        step.ravel(),
        num_segments=(size - 1) * stride + length,
    )


def _shifted_sum(windows: jax.Array) -> jax.Array:
    size, length, _ = windows.shape
    steps = size + length - 1
    padded = jnp.pad(windows, ((length - 1, length - 1), (0, 0), (0, 0)))
    total = padded[length - 1 : length - 1 + steps, 0]
    for k in range(1, length):
        total = total + padded[length - 1 - k : length - 1 - k + steps, k]
    return total


def box_sum(weights: jax.Array, length: int) -> jax.Array:
    """Weight per step, where each of `weights` covers its own step and the `length - 1` behind."""
    padding = [(length - 1, length - 1)]
    zero = weights.dtype.type(0)
    sums: jax.Array = jax.lax.reduce_window(weights, zero, jax.lax.add, (length,), (1,), padding)
    return sums
