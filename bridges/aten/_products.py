"""Products of matrices, convolutions, attention."""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from denograd_jax.backbones._attention import attend
from denograd_jax.bridges._registry import register_op
from denograd_jax.bridges.aten._elementwise import absolute
from denograd_jax.bridges.aten._reductions import vector_norm

__all__: list[str] = []


@register_op("aten.linear")
def linear(input: jax.Array, weight: jax.Array, bias: jax.Array | None = None) -> jax.Array:
    product = jnp.matmul(input, weight.T)
    return product if bias is None else product + bias


@register_op("aten.matmul", "aten.mm", "aten.bmm", "aten.mv")
def matmul(self: jax.Array, other: jax.Array) -> jax.Array:
    return jnp.matmul(self, other)


@register_op("aten.dot", "aten.vdot")
def dot(self: jax.Array, tensor: jax.Array) -> jax.Array:
    return jnp.dot(self, tensor)


@register_op("aten.outer", "aten.ger")
def outer(self: jax.Array, vec2: jax.Array) -> jax.Array:
    return jnp.outer(self, vec2)


@register_op("aten.addmm", "aten.addmv", "aten.baddbmm")
def add_product(
    self: jax.Array, mat1: jax.Array, mat2: jax.Array, *, beta: float = 1, alpha: float = 1
) -> jax.Array:
    product = jnp.matmul(mat1, mat2)
    product = product if alpha == 1 else alpha * product
    return product if beta == 0 else product + (self if beta == 1 else beta * self)


@register_op("aten.einsum")
def einsum(equation: str, tensors: Sequence[jax.Array], *, path: Any = None) -> jax.Array:
    return jnp.einsum(equation.replace(" ", ""), *tensors)


@register_op("aten.bilinear")
def bilinear(
    input1: jax.Array, input2: jax.Array, weight: jax.Array, bias: jax.Array | None = None
) -> jax.Array:
    product = jnp.einsum("...i,kij,...j->...k", input1, weight, input2)
    return product if bias is None else product + bias


@register_op("aten.conv1d.default", "aten.conv2d.default", "aten.conv3d.default")
def conv(
    input: jax.Array,
    weight: jax.Array,
    bias: jax.Array | None = None,
    stride: Sequence[int] = (1,),
    padding: Sequence[int] = (0,),
    dilation: Sequence[int] = (1,),
    groups: int = 1,
) -> jax.Array:
    return _convolve(input, weight, bias, stride, [(p, p) for p in padding], dilation, groups)


@register_op("aten.conv1d.padding", "aten.conv2d.padding", "aten.conv3d.padding")
def conv_with_named_padding(
    input: jax.Array,
    weight: jax.Array,
    bias: jax.Array | None = None,
    stride: Sequence[int] = (1,),
    padding: str = "valid",
    dilation: Sequence[int] = (1,),
    groups: int = 1,
) -> jax.Array:
    axes = weight.ndim - 2
    reach = [0] * axes
    if padding == "same":
        reach = [d * (k - 1) for d, k in zip(_each(dilation, axes), weight.shape[2:], strict=True)]
    pads = [(r // 2, r - r // 2) for r in reach]
    return _convolve(input, weight, bias, stride, pads, dilation, groups)


@register_op("aten.convolution", "aten._convolution")
def convolution(
    input: jax.Array,
    weight: jax.Array,
    bias: jax.Array | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
    *_: Any,
) -> jax.Array:
    if transposed:
        return conv_transpose(
            input, weight, bias, stride, padding, output_padding, groups, dilation
        )
    return conv(input, weight, bias, stride, padding, dilation, groups)


@register_op("aten.conv_transpose1d", "aten.conv_transpose2d", "aten.conv_transpose3d")
def conv_transpose(
    input: jax.Array,
    weight: jax.Array,
    bias: jax.Array | None = None,
    stride: Sequence[int] = (1,),
    padding: Sequence[int] = (0,),
    output_padding: Sequence[int] = (0,),
    groups: int = 1,
    dilation: Sequence[int] = (1,),
) -> jax.Array:
    """A convolution of the input with zeros between its steps; weight is `(in, out/groups, k)`."""
    axes = weight.ndim - 2
    stride, padding, output_padding, dilation = (
        _each(given, axes) for given in (stride, padding, output_padding, dilation)
    )
    into, out = weight.shape[:2]
    weight = weight.reshape(groups, into // groups, out, *weight.shape[2:])
    weight = jnp.swapaxes(weight, 1, 2).reshape(groups * out, into // groups, *weight.shape[3:])
    weight = jnp.flip(weight, range(2, 2 + axes))
    reach = [d * (k - 1) for d, k in zip(dilation, weight.shape[2:], strict=True)]
    pads = [(r - p, r - p + o) for r, p, o in zip(reach, padding, output_padding, strict=True)]
    return _convolve(input, weight, bias, (1,), pads, dilation, groups, spread=stride)


def _convolve(
    x: jax.Array,
    weight: jax.Array,
    bias: jax.Array | None,
    stride: Sequence[int],
    padding: Sequence[tuple[int, int]],
    dilation: Sequence[int],
    groups: int,
    *,
    spread: Sequence[int] = (1,),
) -> jax.Array:
    axes = weight.ndim - 2
    single = x.ndim == axes + 1  # torch takes one instance without a batch, too
    x = x[None] if single else x
    plain = axes == 1 and groups == 1 and tuple(spread) == (1,)
    known = all(isinstance(size, int) for size in x.shape)  # in jax.export they may be symbols
    if plain and known and x.size * weight.shape[2] <= _TAPS:
        found = _product_of_taps(x, weight, stride[0], padding[0], dilation[0])
        found = found if bias is None else found + bias[:, None]
        return found[0] if single else found
    found = jax.lax.conv_general_dilated(
        x,
        weight,
        _each(stride, axes),
        _each(padding, axes),
        lhs_dilation=_each(spread, axes),
        rhs_dilation=_each(dilation, axes),
        feature_group_count=groups,
    )
    if bias is not None:
        found = found + bias.reshape(-1, *[1] * axes)
    return found[0] if single else found


_TAPS = 2**22
"""Numbers, 16 MB in float32: memory that a process has at hand; more is mapped in each call."""


def _product_of_taps(
    x: jax.Array, weight: jax.Array, stride: int, padding: tuple[int, int], dilation: int
) -> jax.Array:
    """A convolution over time, `(n, C, W)`, as one matrix product.

    Within a loop, such as that of a refinement, XLA's CPU backend takes 4 to 15 times longer for
    its own convolution.
    """
    padded = jnp.pad(jnp.swapaxes(x, 1, 2), ((0, 0), padding, (0, 0)))
    reach = dilation * (weight.shape[2] - 1)
    last = padded.shape[1] - reach
    taps = [padded[:, i : last + i : stride] for i in range(0, reach + 1, dilation)]
    joined = jnp.concatenate(taps, axis=-1)
    kernel = weight.transpose(2, 1, 0).reshape(-1, weight.shape[0])
    product = joined.reshape(-1, joined.shape[-1]) @ kernel
    return jnp.swapaxes(product.reshape(*joined.shape[:2], -1), 1, 2)


def _each(given: Sequence[Any], axes: int) -> Sequence[Any]:
    """One setting per axis; a single one is for all."""
    return tuple(given) * axes if len(given) == 1 else tuple(given)


@register_op("aten.scaled_dot_product_attention")
def scaled_dot_product_attention(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    attn_mask: jax.Array | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> jax.Array:
    if enable_gqa:
        groups = query.shape[-3] // key.shape[-3]
        key, value = (jnp.repeat(a, groups, axis=-3) for a in (key, value))
    if is_causal:
        attn_mask = jnp.tril(jnp.ones((query.shape[-2], key.shape[-2]), bool))
    if attn_mask is not None and attn_mask.dtype == bool:
        attn_mask = jnp.where(attn_mask, 0.0, -jnp.inf).astype(query.dtype)
    scale = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    found: jax.Array = attend(query, key, value, scale, attn_mask)
    return found


@register_op("aten._weight_norm")
def weight_norm(v: jax.Array, g: jax.Array, dim: int = 0) -> jax.Array:
    axes = tuple(i for i in range(v.ndim) if dim == -1 or i != dim % v.ndim)
    return v * (g / jnp.sqrt(jnp.square(v).sum(axes, keepdims=True)))


@register_op("aten._weight_norm_interface")
def weight_norm_with_norm(v: jax.Array, g: jax.Array, dim: int = 0) -> tuple[jax.Array, jax.Array]:
    axes = tuple(i for i in range(v.ndim) if i != dim % v.ndim)
    length = jnp.sqrt(jnp.square(v).sum(axes, keepdims=True))
    return v * (g / length), length


@register_op("aten._cdist_forward")
def distances(x1: jax.Array, x2: jax.Array, p: float, compute_mode: Any = None) -> jax.Array:
    """Between all pairs of rows; the derivative of a distance of 0 is 0."""
    differences = x1[..., :, None, :] - x2[..., None, :, :]
    if p != math.inf:
        return vector_norm(differences, p, -1)
    size = absolute(differences)
    largest = jax.lax.stop_gradient(size.max(-1, keepdims=True))
    slope = jnp.where(size == largest, size - jax.lax.stop_gradient(size), 0)  # of every tie
    return largest[..., 0] + slope.sum(-1)
