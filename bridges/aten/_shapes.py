"""Views: the same numbers in another order or shape."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from denograd_jax.bridges._registry import register_op

__all__: list[str] = []


@register_op("aten.view", "aten._unsafe_view", "aten._reshape_alias")
def reshape(self: jax.Array, size: Sequence[int], *_: Any) -> jax.Array:
    return self.reshape(tuple(size))


@register_op("aten.view.dtype")
def reinterpret(self: jax.Array, dtype: str) -> jax.Array:
    return jax.lax.bitcast_convert_type(self, jnp.dtype(dtype))


@register_op("aten.permute")
def permute(self: jax.Array, dims: Sequence[int]) -> jax.Array:
    return self.transpose(*dims)


@register_op("aten.transpose.int")
def transpose(self: jax.Array, dim0: int, dim1: int) -> jax.Array:
    return self if self.ndim == 0 else jnp.swapaxes(self, dim0, dim1)


@register_op("aten.t")
def transpose_matrix(self: jax.Array) -> jax.Array:
    return self.T


@register_op("aten.unsqueeze")
def unsqueeze(self: jax.Array, dim: int) -> jax.Array:
    return jnp.expand_dims(self, dim)


@register_op("aten.squeeze.dim", "aten.squeeze.dims")
def squeeze(self: jax.Array, dim: int | Sequence[int]) -> jax.Array:
    """Axes of another length than 1 stay; `squeeze.default` names its axes when converted."""
    axes = (dim,) if isinstance(dim, int) else dim
    ones = tuple(axis for axis in axes if self.ndim and self.shape[axis] == 1)
    return jnp.squeeze(self, ones)


@register_op("aten.expand")
def expand(self: jax.Array, size: Sequence[int], *, implicit: bool = False) -> jax.Array:
    """A size of -1 keeps the axis."""
    lead = len(size) - self.ndim
    kept = [
        self.shape[i - lead] if isinstance(n, int) and n == -1 else n for i, n in enumerate(size)
    ]
    return jnp.broadcast_to(self, tuple(kept))


@register_op("aten.broadcast_tensors")
def broadcast_tensors(tensors: Sequence[jax.Array]) -> list[jax.Array]:
    return jnp.broadcast_arrays(*tensors)


@register_op("aten.repeat")
def repeat(self: jax.Array, repeats: Sequence[int]) -> jax.Array:
    return jnp.tile(self, tuple(repeats))


@register_op("aten.tile")
def tile(self: jax.Array, dims: Sequence[int]) -> jax.Array:
    return jnp.tile(self, tuple(dims))


@register_op("aten.repeat_interleave.self_int")
def repeat_interleave(
    self: jax.Array, repeats: int, dim: int | None = None, *, output_size: int | None = None
) -> jax.Array:
    return jnp.repeat(self, repeats, axis=dim)


@register_op("aten.cat", "aten.concat", "aten.concatenate")
def concatenate(tensors: Sequence[jax.Array], dim: int = 0) -> jax.Array:
    """Empty arrays of one axis are left out, as torch allows."""
    kept = [t for t in tensors if t.shape != (0,)] or list(tensors)
    return jnp.concatenate(kept, axis=dim)


@register_op("aten.stack")
def stack(tensors: Sequence[jax.Array], dim: int = 0) -> jax.Array:
    return jnp.stack(tensors, axis=dim)


@register_op("aten.split.Tensor", "aten.unsafe_split.Tensor")
def split(self: jax.Array, split_size: int, dim: int = 0) -> tuple[jax.Array, ...]:
    size = self.shape[dim]
    cuts = [(i, min(i + split_size, size)) for i in range(0, max(size, 1), max(split_size, 1))]
    return tuple(jax.lax.slice_in_dim(self, a, b, axis=dim) for a, b in cuts)


@register_op("aten.split_with_sizes", "aten.unsafe_split_with_sizes")
def split_with_sizes(
    self: jax.Array, split_sizes: Sequence[int], dim: int = 0
) -> tuple[jax.Array, ...]:
    parts, begin = [], 0
    for size in split_sizes:
        parts.append(jax.lax.slice_in_dim(self, begin, begin + size, axis=dim))
        begin += size
    return tuple(parts)


@register_op("aten.unbind.int")
def unbind(self: jax.Array, dim: int = 0) -> tuple[jax.Array, ...]:
    return tuple(jnp.moveaxis(self, dim, 0))


@register_op("aten.flip")
def flip(self: jax.Array, dims: Sequence[int]) -> jax.Array:
    return jnp.flip(self, tuple(dims))


@register_op("aten.roll")
def roll(self: jax.Array, shifts: Sequence[int], dims: Sequence[int] = ()) -> jax.Array:
    return jnp.roll(self, tuple(shifts), tuple(dims)) if dims else jnp.roll(self, shifts[0])


@register_op("aten.unfold")
def unfold(self: jax.Array, dimension: int, size: int, step: int) -> jax.Array:
    """Windows along an axis, as a last axis."""
    axis = dimension % self.ndim
    starts = jnp.arange((self.shape[axis] - size) // step + 1) * step
    windows = jnp.take(self, starts[:, None] + jnp.arange(size)[None], axis=axis)
    return jnp.moveaxis(windows, axis + 1, -1)


@register_op("aten.constant_pad_nd")
def constant_pad(self: jax.Array, pad: Sequence[int], value: float = 0) -> jax.Array:
    """Lengths to add, or if negative to cut, from the last axis on."""
    kept: jax.Array = jax.lax.pad(self, jnp.asarray(value, self.dtype), _pairs(self, pad, 0))
    return kept


@register_op("aten.pad")
def pad(
    self: jax.Array, pad: Sequence[int], mode: str = "constant", value: float | None = None
) -> jax.Array:
    if mode == "constant":
        return constant_pad(self, pad, value or 0)
    modes = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}
    return _pad(self, pad, modes[mode])


@register_op("aten.reflection_pad1d", "aten.reflection_pad2d", "aten.reflection_pad3d")
def reflection_pad(self: jax.Array, padding: Sequence[int]) -> jax.Array:
    return _pad(self, padding, "reflect")


@register_op("aten.replication_pad1d", "aten.replication_pad2d", "aten.replication_pad3d")
def replication_pad(self: jax.Array, padding: Sequence[int]) -> jax.Array:
    return _pad(self, padding, "edge")


def _pad(x: jax.Array, padding: Sequence[int], mode: str) -> jax.Array:
    if min(padding) >= 0:
        return jnp.pad(x, [pair[:2] for pair in _pairs(x, padding)], mode=mode)
    cut = constant_pad(x, [min(p, 0) for p in padding])
    return _pad(cut, [max(p, 0) for p in padding], mode)


def _pairs(x: jax.Array, padding: Sequence[int], *within: int) -> list[Any]:
    """What to add before and after each axis; torch lists the last axis first."""
    given = [(*padding[i : i + 2], *within) for i in range(0, len(padding), 2)]
    nothing = (0, 0, *within)
    return [nothing] * (x.ndim - len(given)) + given[::-1]


@register_op("aten.diagonal")
def diagonal(self: jax.Array, offset: int = 0, dim1: int = 0, dim2: int = 1) -> jax.Array:
    found: jax.Array = jnp.diagonal(self, offset, dim1, dim2)
    return found


@register_op("aten.diag_embed")
def diag_embed(self: jax.Array, offset: int = 0, dim1: int = -2, dim2: int = -1) -> jax.Array:
    size = self.shape[-1] + abs(offset)
    place = jnp.arange(self.shape[-1])
    square = jnp.zeros((*self.shape[:-1], size, size), self.dtype)
    square = square.at[..., place + max(-offset, 0), place + max(offset, 0)].set(self)
    return jnp.moveaxis(square, (-2, -1), (dim1, dim2))


@register_op("aten.tril")
def tril(self: jax.Array, diagonal: int = 0) -> jax.Array:
    return jnp.tril(self, diagonal)


@register_op("aten.triu")
def triu(self: jax.Array, diagonal: int = 0) -> jax.Array:
    return jnp.triu(self, diagonal)


@register_op("aten.meshgrid.indexing")
def meshgrid(tensors: Sequence[jax.Array], *, indexing: str = "ij") -> list[jax.Array]:
    return jnp.meshgrid(*tensors, indexing=indexing)
