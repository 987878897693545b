"""Views: random copies of instances that mean the same, for training that compares two of them."""

import functools
from collections.abc import Callable
from typing import TypeAlias

import jax
import jax.numpy as jnp

from denograd_jax._types import Instances

__all__ = ["View", "jitter", "swap"]

View: TypeAlias = Callable[[jax.Array, Instances], Instances]
"""`view(key, x)`: random copies of a batch of instances, of the same shape. Pure."""

# The factories are cached, so that equal views share what has been compiled for them.


@functools.cache
def jitter(scale: float = 0.05) -> View:
    """Gaussian noise on every cell, of `scale` standard deviations that the cell has in the batch.

    What is constant in a batch, an indicator that nobody has say, stays as it is.
    """

    def view(key: jax.Array, x: Instances) -> Instances:
        return x + scale * x.std(axis=0, keepdims=True) * jax.random.normal(key, x.shape, x.dtype)

    return view


@functools.cache
def swap(share: float = 0.2, scale: float = 0.05) -> View:
    """Jitter, and a `share` of all cells taken from other instances of the batch.

    Cells keep their column's distribution whatever that is, skewed, discrete or one-hot, which
    neither zeros nor means would.

    Source:
        SCARF: Bahri, Jiang, Tay and Metzler, ICLR 2022.
    """
    noise = jitter(scale)

    def view(key: jax.Array, x: Instances) -> Instances:
        choosing, mixing, shaking = jax.random.split(key, 3)
        others = jax.random.permutation(mixing, x, axis=0, independent=True)
        taken = jax.random.bernoulli(choosing, share, x.shape)
        return noise(shaking, jnp.where(taken, others, x))

    return view
