"""Discrete Fourier transforms. A normalisation is 0 (none), 1 (root of n) or 2 (n)."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from denograd_jax.bridges._registry import register_op

__all__: list[str] = []

_FORWARD = ("backward", "ortho", "forward")  # NumPy's names, by torch's number
_INVERSE = _FORWARD[::-1]


@register_op("aten._fft_r2c")
def real_to_complex(
    self: jax.Array, dim: Sequence[int], normalization: int, onesided: bool
) -> jax.Array:
    """Along the last of the axes only the frequencies up to Nyquist's, if `onesided`."""
    transform = jnp.fft.rfftn if onesided else jnp.fft.fftn
    return transform(self, axes=tuple(dim), norm=_FORWARD[normalization])


@register_op("aten._fft_c2c")
def complex_to_complex(
    self: jax.Array, dim: Sequence[int], normalization: int, forward: bool
) -> jax.Array:
    if forward:
        return jnp.fft.fftn(self, axes=tuple(dim), norm=_FORWARD[normalization])
    return jnp.fft.ifftn(self, axes=tuple(dim), norm=_INVERSE[normalization])


@register_op("aten._fft_c2r")
def complex_to_real(
    self: jax.Array, dim: Sequence[int], normalization: int, last_dim_size: int
) -> jax.Array:
    sizes = (*(self.shape[axis] for axis in dim[:-1]), last_dim_size)
    return jnp.fft.irfftn(self, s=sizes, axes=tuple(dim), norm=_INVERSE[normalization])
