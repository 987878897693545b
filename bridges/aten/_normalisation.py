"""Normalisation layers, by running statistics or by those of each instance."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from denograd_jax.bridges._registry import register_op

__all__: list[str] = []


@register_op("aten.layer_norm")
def layer_norm(
    input: jax.Array,
    normalized_shape: Sequence[int],
    weight: jax.Array | None = None,
    bias: jax.Array | None = None,
    eps: float = 1e-5,
    *_: Any,
    **__: Any,
) -> jax.Array:
    return native_layer_norm(input, normalized_shape, weight, bias, eps)[0]


@register_op("aten.native_layer_norm")
def native_layer_norm(
    input: jax.Array,
    normalized_shape: Sequence[int],
    weight: jax.Array | None,
    bias: jax.Array | None,
    eps: float,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The result, the mean, and one over the standard deviation."""
    standard, mean, inverse = _standardised(input, tuple(range(-len(normalized_shape), 0)), eps)
    return _scaled(standard, weight, bias), mean, inverse


@register_op("aten.rms_norm", "aten._fused_rms_norm")
def rms_norm(
    input: jax.Array,
    normalized_shape: Sequence[int],
    weight: jax.Array | None = None,
    eps: float | None = None,
) -> jax.Array:
    axes = tuple(range(-len(normalized_shape), 0))
    finfo: Any = jnp.finfo
    least = float(finfo(input.dtype).eps) if eps is None else eps
    inverse = jax.lax.rsqrt(jnp.square(input).mean(axes, keepdims=True) + least)
    return _scaled(input * inverse, weight, None)


@register_op("aten.group_norm")
def group_norm(
    input: jax.Array,
    num_groups: int,
    weight: jax.Array | None = None,
    bias: jax.Array | None = None,
    eps: float = 1e-5,
    *_: Any,
    **__: Any,
) -> jax.Array:
    n, channels, *rest = input.shape
    grouped = input.reshape(n, num_groups, channels // num_groups, *rest)
    standard, _mean, _inverse = _standardised(grouped, tuple(range(2, grouped.ndim)), eps)
    return _scaled_channels(standard.reshape(input.shape), weight, bias)


@register_op("aten.native_group_norm")
def native_group_norm(
    input: jax.Array,
    weight: jax.Array | None,
    bias: jax.Array | None,
    N: int,
    C: int,
    HxW: int,
    group: int,
    eps: float,
) -> tuple[jax.Array, ...]:
    return (group_norm(input, group, weight, bias, eps),)


@register_op("aten._native_batch_norm_legit_no_training")
def batch_norm(
    input: jax.Array,
    weight: jax.Array | None,
    bias: jax.Array | None,
    running_mean: jax.Array,
    running_var: jax.Array,
    momentum: float,
    eps: float,
) -> tuple[jax.Array, ...]:
    scale = jax.lax.rsqrt(_channels(running_var, input) + eps)
    standard = (input - _channels(running_mean, input)) * scale
    return (_scaled_channels(standard, weight, bias),)


@register_op("aten._native_batch_norm_legit.no_stats")
def batch_norm_by_input(
    input: jax.Array,
    weight: jax.Array | None,
    bias: jax.Array | None,
    training: bool,
    momentum: float,
    eps: float,
) -> tuple[jax.Array, ...]:
    """Decomposed instance norms are this, of one batch; elsewhere it lets instances interact."""
    axes = (0, *range(2, input.ndim))
    standard, mean, inverse = _standardised(input, axes, eps)
    return _scaled_channels(standard, weight, bias), mean, inverse


@register_op("aten.instance_norm")
def instance_norm(
    input: jax.Array,
    weight: jax.Array | None,
    bias: jax.Array | None,
    running_mean: Any,
    running_var: Any,
    use_input_stats: bool,
    momentum: float,
    eps: float,
    *_: Any,
) -> jax.Array:
    if not use_input_stats:
        return batch_norm(input, weight, bias, running_mean, running_var, momentum, eps)[0]
    standard, _mean, _inverse = _standardised(input, tuple(range(2, input.ndim)), eps)
    return _scaled_channels(standard, weight, bias)


def _standardised(
    x: jax.Array, axes: tuple[int, ...], eps: float
) -> tuple[jax.Array, jax.Array, jax.Array]:
    mean = x.mean(axes, keepdims=True)
    inverse = jax.lax.rsqrt(jnp.square(x - mean).mean(axes, keepdims=True) + eps)
    return (x - mean) * inverse, mean, inverse


def _scaled(x: jax.Array, weight: jax.Array | None, bias: jax.Array | None) -> jax.Array:
    x = x if weight is None else x * weight
    return x if bias is None else x + bias


def _scaled_channels(x: jax.Array, weight: jax.Array | None, bias: jax.Array | None) -> jax.Array:
    weight, bias = (None if v is None else _channels(v, x) for v in (weight, bias))
    return _scaled(x, weight, bias)


def _channels(vector: jax.Array, like: jax.Array) -> jax.Array:
    """One number per channel, along axis 1."""
    return vector.reshape(1, -1, *[1] * (like.ndim - 2))
